// What the server says; `schema.json` describes it.

export interface Memory {
  process: number;
  managed: number;
  unmanaged: number;
  unmanaged_recent: number;
  spilled: number;
}

export type Colour = "blue" | "orange" | "red";

export interface Levels {
  target: number | null;
  spill: number | null;
  pause: number | null;
  terminate: number | null;
}

export interface Backend {
  name: string;
  write_rate: number;
  read_rate: number;
  written: number;
  read: number;
  ratio: number | null;
  queue: number;
  deferred: number;
  failures: number;
  values: number;
  bytes: number;
  physical: number;
}

export interface RunningTask {
  lane: number;
  start: number;
  name: string;
}

export interface Worker {
  name: string;
  pid: number;
  nthreads: number;
  status: "running" | "paused" | "retiring" | "terminated";
  colour: Colour;
  limit: number | null;
  levels: Levels;
  memory: Memory;
  running_tasks: number;
  running: RunningTask[];
  incoming_transfers: number;
  outgoing_transfers: number;
  uptime: number;
  restarts: number;
  backends: Backend[];
}

export interface State {
  version: number;
  instance: string;
  at: number;
  total: Memory;
  limit: number | null;
  workers: Worker[];
}

export interface Block {
  number: number;
  worker: string;
  kind: "task" | "write" | "read";
  lane: number;
  start: number;
  end: number;
  name: string;
  count: number;
  bytes: number;
}

export interface LogEntry {
  number: number;
  at: number;
  worker: string;
  kind: string;
  title: string;
  text: string;
}

/** Its time, then managed, unmanaged, unmanaged recent and spilled bytes. */
export type Sample = [number, number, number, number, number];

export interface History {
  at: number;
  samples: Sample[];
}

export interface Hello {
  version: number;
  instance: string;
  at: number;
  history: History;
  log: LogEntry[];
  blocks: Block[];
}

export interface News {
  log: LogEntry[];
  blocks: Block[];
}

/** The version of the API that this page was made for. */
export const VERSION = 1;

/** What a page does with what it is told. */
export interface Listener {
  hello(hello: Hello): void;
  news(news: News): void;
  state(state: State): void;
  connection(live: boolean): void;
}

/** Milliseconds without a word after which the connection counts as lost. */
const SILENCE = 5000;

/** Milliseconds between two attempts. */
const RETRY = 700;

/** Listens for as long as the page is open, to one server after the other. */
export function listen(listener: Listener): void {
  let source: EventSource | undefined;
  let heard = 0;
  const connect = () => {
    source?.close();
    const current = new EventSource("/api/v1/stream");
    source = current;
    heard = performance.now();
    const on = <T>(name: string, act: (data: T) => void) => {
      current.addEventListener(name, (event) => {
        if (current !== source) return;
        heard = performance.now();
        listener.connection(true);
        act(JSON.parse((event as MessageEvent<string>).data) as T);
      });
    };
    on<Hello>("hello", (hello) => listener.hello(hello));
    on<News>("news", (news) => listener.news(news));
    on<State>("state", (state) => listener.state(state));
    current.addEventListener("error", () => {
      if (current !== source) return;
      current.close();
      listener.connection(false);
      setTimeout(() => current === source && connect(), RETRY);
    });
  };
  connect();
  setInterval(() => {
    if (performance.now() - heard > SILENCE) {
      listener.connection(false);
      connect();
    }
  }, 1000);
}

/** Memory over time of one worker. */
export async function history(worker: string): Promise<History> {
  const answer = await fetch(`/api/v1/history?worker=${encodeURIComponent(worker)}`);
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()) as History;
}
