// What the page knows of the past, on the browser's clock, so that it outlives the server.

import type { Block, Hello, History, LogEntry, Sample, State } from "./api";

/** Seconds of memory that are kept. */
const KEEP = 600;

/** Blocks and log entries that are kept. */
const MOST = 4000;

export type Kept<T> = T & { key: string };

/** Memory over time, of one worker or all. */
export class Samples {
  list: Sample[] = [];

  /** Takes over what the server has; own samples that are older stay. */
  take(history: History, offset: number): void {
    const taken = history.samples.map((sample) => moved(sample, offset));
    const first = taken[0]?.[0] ?? Infinity;
    const last = taken[taken.length - 1]?.[0] ?? -Infinity;
    this.list = [...this.list.filter(([at]) => at < first), ...taken, ...this.list.filter(([at]) => at > last)];
  }

  add(sample: Sample): void {
    const last = this.list[this.list.length - 1]?.[0] ?? -Infinity;
    if (sample[0] <= last) return;
    this.list.push(sample);
    while ((this.list[0]?.[0] ?? Infinity) < sample[0] - KEEP) this.list.shift();
  }
}

function moved([at, ...rest]: Sample, offset: number): Sample {
  return [at + offset, ...rest];
}

export class Past {
  readonly total = new Samples();
  readonly workers = new Map<string, Samples>();
  blocks: Kept<Block>[] = [];
  log: Kept<LogEntry>[] = [];
  /** What the browser's clock reads more than the server's. */
  offset = 0;
  private instance = "";

  hello(hello: Hello): void {
    this.offset = Date.now() / 1000 - hello.at;
    if (hello.instance === this.instance) {
      // The same server says all of its past again.
      this.blocks = this.blocks.filter((block) => !block.key.startsWith(`${hello.instance}/`));
      this.log = this.log.filter((entry) => !entry.key.startsWith(`${hello.instance}/`));
    }
    this.instance = hello.instance;
    this.total.take(hello.history, this.offset);
    this.add(hello.blocks, hello.log);
  }

  add(blocks: Block[], log: LogEntry[]): void {
    const key = (number: number) => `${this.instance}/${number}`;
    for (const block of blocks) {
      const [start, end] = [block.start + this.offset, block.end + this.offset];
      this.blocks.push({ ...block, start, end, key: key(block.number) });
    }
    for (const entry of log) this.log.push({ ...entry, at: entry.at + this.offset, key: key(entry.number) });
    this.blocks = this.blocks.slice(-MOST);
    this.log = this.log.slice(-MOST);
  }

  state(state: State): void {
    const at = state.at + this.offset;
    const sample = (m: State["total"]): Sample => [at, m.managed, m.unmanaged, m.unmanaged_recent, m.spilled];
    this.total.add(sample(state.total));
    for (const worker of state.workers) this.samples(worker.name).add(sample(worker.memory));
    for (const name of this.workers.keys()) {
      if (!state.workers.some((worker) => worker.name === name)) this.workers.delete(name);
    }
  }

  samples(worker: string): Samples {
    let samples = this.workers.get(worker);
    if (!samples) {
      samples = new Samples();
      this.workers.set(worker, samples);
    }
    return samples;
  }
}
