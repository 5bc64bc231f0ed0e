// A bar for each worker, and one for all.

import type { Colour, Levels, Memory, State, Worker } from "./api";
import { Keyed, byId, make, set, write } from "./dom";
import { bytes, count, duration, share } from "./format";

type Part = "managed" | "unmanaged" | "unmanaged_recent" | "spilled";

const PARTS: { part: Part; title: string; why: string }[] = [
  { part: "managed", title: "managed", why: "what the values held in RAM weigh" },
  {
    part: "unmanaged",
    title: "unmanaged",
    why: "the rest of the process: program, running tasks, leaks, what the allocator keeps",
  },
  {
    part: "unmanaged_recent",
    title: "unmanaged recent",
    why: "unmanaged memory that appeared within the last 30 seconds, mostly of running tasks",
  },
  { part: "spilled", title: "spilled", why: "values on disk, in the size that they have there" },
];

const COLOURS: [Colour | "grey", string][] = [
  ["blue", "normal"],
  ["orange", "may be spilling"],
  ["red", "paused or retiring"],
  ["grey", "spilled to disk"],
];

const LEVELS: { level: keyof Levels | "limit"; why: string }[] = [
  { level: "target", why: "values in RAM are kept below this, the least recently used go to disk" },
  { level: "spill", why: "above this process memory values are evicted, whatever they weigh" },
  { level: "pause", why: "above this no further task starts" },
  { level: "terminate", why: "above this the nanny ends the process and starts a fresh one" },
  { level: "limit", why: "what the process may use" },
];

interface Piece {
  key: string;
  class: string;
  size: number;
  tip: string;
}

/** One bar: pieces side by side, and lines over them. One stop of the tab key; arrows go on from there. */
class Bar {
  readonly root = make("div", { class: "bar", role: "group" });
  private readonly pieces = make("div", { class: "pieces" });
  private readonly lines = make("div", { class: "lines" });
  private readonly keyed: Keyed<HTMLElement>;
  private readonly keyedLines: Keyed<HTMLElement>;

  constructor() {
    this.root.append(this.pieces, this.lines);
    const create = (kind: string) => () => make("span", { class: kind, role: "img", tabindex: -1 });
    this.keyed = new Keyed(this.pieces, create("piece"));
    this.keyedLines = new Keyed(this.lines, create("line"));
  }

  update(label: string, pieces: Piece[], lines: Piece[], scale: number): void {
    set(this.root, { "aria-label": label });
    this.keyed.update(pieces.map((piece) => piece.key));
    for (const piece of pieces) {
      const element = this.keyed.get(piece.key);
      this.describe(element, piece, `piece ${piece.class}`);
      element.style.width = `${(piece.size / scale) * 100}%`;
    }
    this.keyedLines.update(lines.map((line) => line.key));
    for (const line of lines) {
      const element = this.keyedLines.get(line.key);
      this.describe(element, line, `line ${line.class}`);
      element.style.left = `${(line.size / scale) * 100}%`;
    }
    if (!this.root.querySelector('[tabindex="0"]')) {
      this.root.querySelector("[tabindex]")?.setAttribute("tabindex", "0");
    }
  }

  private describe(element: HTMLElement, piece: Piece, name: string): void {
    set(element, {
      class: name,
      "data-tip": piece.tip,
      "aria-label": piece.tip,
      "data-bytes": piece.size,
      "data-part": piece.key,
    });
  }
}

/** Arrow keys: along a bar, and from bar to bar. */
function move(event: KeyboardEvent): void {
  const from = event.target;
  if (!(from instanceof HTMLElement) || !from.matches(".piece, .line")) return;
  const bar = from.closest(".bar");
  const all = [...(bar?.querySelectorAll<HTMLElement>(".piece, .line") ?? [])];
  const bars = [...document.querySelectorAll("#memory .bar")];
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const jump = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  let to: HTMLElement | undefined;
  if (step) to = all[all.indexOf(from) + step];
  else if (event.key === "Home") to = all[0];
  else if (event.key === "End") to = all[all.length - 1];
  else if (jump && bar) {
    const next = bars[bars.indexOf(bar) + jump]?.querySelectorAll<HTMLElement>(".piece, .line");
    to = next?.[Math.min(all.indexOf(from), next.length - 1)];
  } else return;
  event.preventDefault();
  if (!to) return;
  if (to.closest(".bar") === bar) from.tabIndex = -1;
  to.closest(".bar")?.querySelectorAll('[tabindex="0"]').forEach((other) => set(other, { tabindex: -1 }));
  to.tabIndex = 0;
  to.focus();
}

/** All bars of the page. */
export class Bars {
  private readonly total = new Bar();
  private readonly totalText = make("p", { class: "figures" });
  private readonly workers: Keyed<HTMLLIElement>;
  private readonly bars = new WeakMap<HTMLLIElement, { bar: Bar; status: HTMLElement; text: HTMLElement }>();

  constructor() {
    byId("total").append(
      make("div", { class: "name" }, make("strong", {}, "all workers")),
      this.total.root,
      this.totalText,
    );
    this.workers = new Keyed(byId("workers"), (name) => this.row(name));
    byId("memory").addEventListener("keydown", move);
    byId("legend").append(
      ...COLOURS.map(([colour, text]) => make("li", {}, make("i", { class: `swatch ${colour}` }), text)),
      ...PARTS.slice(0, 3).map(({ part, title }) =>
        make("li", {}, make("i", { class: `swatch sample ${part}` }), title),
      ),
    );
  }

  private row(name: string): HTMLLIElement {
    const bar = new Bar();
    const status = make("span", { class: "status" });
    const text = make("p", { class: "figures" });
    const title = make("div", { class: "name" }, make("strong", {}, name), " ", status);
    const row = make("li", { class: "worker" }, title, bar.root, text);
    this.bars.set(row, { bar, status, text });
    return row;
  }

  update(state: State): void {
    const reach = (memory: Memory, limit: number | null) =>
      Math.max(memory.process + memory.spilled, limit ?? 0, 1);
    this.updateTotal(state, reach(state.total, state.limit));
    const scale = Math.max(1, ...state.workers.map((worker) => reach(worker.memory, worker.limit)));
    this.workers.update(state.workers.map((worker) => worker.name));
    for (const worker of state.workers) {
      const row = this.workers.get(worker.name);
      const parts = this.bars.get(row);
      if (!parts) continue;
      set(row, { "data-worker": worker.name, "data-status": worker.status, "data-colour": worker.colour });
      set(parts.status, { class: `status ${worker.colour}` });
      write(parts.status, worker.status);
      write(parts.text, figures(worker.memory, worker.limit, about(worker)));
      const lines = LEVELS.flatMap(({ level, why }) => {
        const size = level === "limit" ? worker.limit : worker.levels[level];
        return size === null ? [] : [{ key: level, class: level, size, tip: `${level}, ${bytes(size)}: ${why}.` }];
      });
      const label = `${worker.name}, ${worker.status}`;
      parts.bar.update(label, pieces(worker.memory, worker.colour, worker.limit, ""), lines, scale);
    }
  }

  private updateTotal(state: State, scale: number): void {
    const all: Piece[] = [];
    for (const [colour, meaning] of COLOURS.slice(0, 3) as [Colour, string][]) {
      const sum: Memory = { process: 0, managed: 0, unmanaged: 0, unmanaged_recent: 0, spilled: 0 };
      const workers = state.workers.filter((worker) => worker.colour === colour);
      for (const { memory } of workers) {
        sum.managed += memory.managed;
        sum.unmanaged += memory.unmanaged;
        sum.unmanaged_recent += memory.unmanaged_recent;
      }
      const of = ` Of ${count(workers.length, "worker")}: ${meaning}.`;
      if (workers.length) all.push(...pieces(sum, colour, null, of).filter((piece) => piece.class !== "grey spilled"));
    }
    const { spilled } = state.total;
    all.push(...pieces({ ...state.total, spilled }, "blue", null, "").filter((piece) => piece.key === "spilled"));
    const { limit } = state;
    const lines = limit === null ? [] : [{ key: "limit", class: "limit", size: limit, tip: `limit, ${bytes(limit)}: what all workers together may use.` }];
    this.total.update("all workers", all, lines, scale);
    write(this.totalText, figures(state.total, limit, [count(state.workers.length, "worker")]));
  }
}

function pieces(memory: Memory, colour: Colour, limit: number | null, more: string): Piece[] {
  return PARTS.map(({ part, title, why }) => {
    const size = memory[part];
    const name = part === "spilled" ? "grey spilled" : `${colour} ${part}`;
    const key = more && part !== "spilled" ? `${colour} ${part}` : part;
    const of = part === "spilled" ? "" : share(size, limit);
    return { key, class: name, size, tip: `${title}, ${bytes(size)}${of}: ${why}.${more}` };
  });
}

function figures(memory: Memory, limit: number | null, more: string[]): string {
  const parts = PARTS.map(({ part, title }) => `${title} ${bytes(memory[part])}`);
  const of = limit === null ? "" : ` of ${bytes(limit)}`;
  return [`process ${bytes(memory.process)}${of}`, ...parts, ...more].join(" · ");
}

function about(worker: Worker): string[] {
  const more = [count(worker.running_tasks, "task")];
  const transfers = worker.incoming_transfers + worker.outgoing_transfers;
  if (transfers) more.push(count(transfers, "transfer"));
  if (worker.pid) more.push(`process ${worker.pid}, up ${duration(worker.uptime)}`);
  if (worker.restarts) more.push(`started again ${count(worker.restarts, "time")}`);
  return more;
}
