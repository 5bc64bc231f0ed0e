// Tasks and disk: what each worker did within the last minute, a lane for each task that ran beside others, and one
// for its storage, in which writing and reading are orange.

import type { Block, State, Worker } from "./api";
import { Keyed, byId, draw, make, set } from "./dom";
import { bytes, count, duration } from "./format";
import type { Kept } from "./past";
import { hideTip, showTip } from "./tip";

/** Seconds that are shown. */
const WINDOW = 60;

const LANE = 14;
const GAP = 6;

/** A block is drawn at least so wide, in seconds, or nobody sees it. */
const NARROWEST = 0.12;

const LEGEND: [string, string][] = [
  ["task", "task"],
  ["write", "disk write"],
  ["read", "disk read"],
];

/** One worker: its name, and its blocks on the seconds since `origin`. */
class Lanes {
  readonly root: HTMLElement;
  private readonly svg = draw("svg", { preserveAspectRatio: "none" });
  private readonly blocks: Keyed<SVGRectElement>;

  constructor(name: string) {
    const group = draw("g");
    this.svg.append(group);
    this.root = make("div", { class: "row" }, make("span", { class: "name" }, name));
    this.root.append(this.svg);
    this.blocks = new Keyed(group, () => draw("rect"));
  }

  update(worker: Worker, blocks: Kept<Block>[], now: number, offset: number, origin: number): void {
    const shown = blocks.filter((block) => block.end > now - WINDOW);
    const running = worker.running.map((task) => ({
      key: `running/${task.lane}/${task.start}`,
      worker: worker.name,
      kind: "task" as const,
      lane: task.lane,
      start: Math.max(task.start + offset, now - WINDOW),
      end: now,
      name: task.name,
      count: 1,
      bytes: 0,
      number: -1,
    }));
    const all: Kept<Block>[] = [...shown, ...running];
    const lanes = Math.max(0, ...all.filter(({ kind }) => kind === "task").map(({ lane }) => lane + 1));
    const height = (lanes + 1) * LANE;
    set(this.svg, { viewBox: `${now - WINDOW - origin} 0 ${WINDOW} ${height}`, height });
    this.blocks.update(all.map((block) => block.key));
    for (const block of all) {
      const tip = describe(block, block.number < 0);
      set(this.blocks.get(block.key), {
        class: `block ${block.kind}${block.number < 0 ? " running" : ""}`,
        x: (block.start - origin).toFixed(3),
        y: (block.kind === "task" ? block.lane : lanes) * LANE + 1,
        width: Math.max(NARROWEST, block.end - block.start).toFixed(3),
        height: LANE - 2,
        "data-tip": tip,
        role: "img",
        "aria-label": tip,
        tabindex: -1,
      });
    }
  }
}

function describe(block: Kept<Block>, running: boolean): string {
  const time = duration(block.end - block.start);
  const of = `${block.worker}: `;
  switch (block.kind) {
    case "task": {
      const name = block.name || (block.count > 1 ? "tasks" : "a task");
      const many = block.count > 1 ? ` (${count(block.count, "time")})` : "";
      return `${of}${name}${many} ${running ? "has run for" : "ran for"} ${time}.`;
    }
    case "write":
      return `${of}writing ${count(block.count, "value")} of ${bytes(block.bytes)} to disk took ${time}.`;
    case "read":
      return `${of}reading ${count(block.count, "value")} of ${bytes(block.bytes)} from disk took ${time}.`;
  }
}

export class Stream {
  private readonly rows = new Map<string, Lanes>();
  private readonly order: Keyed<HTMLElement>;
  private readonly origin = Date.now() / 1000;

  constructor() {
    const root = byId("lanes");
    this.order = new Keyed(root, (name) => this.row(name).root);
    root.addEventListener("keydown", (event) => this.move(root, event));
    root.style.setProperty("--gap", `${GAP}px`);
    byId("stream-legend").append(
      ...LEGEND.map(([kind, text]) => make("li", {}, make("i", { class: `swatch ${kind}` }), text)),
    );
  }

  update(state: State, blocks: Kept<Block>[], offset: number): void {
    const now = state.at + offset;
    const names = state.workers.map((worker) => worker.name);
    for (const name of this.rows.keys()) if (!names.includes(name)) this.rows.delete(name);
    this.order.update(names);
    const of = new Map<string, Kept<Block>[]>();
    for (const block of blocks) {
      const list = of.get(block.worker);
      if (list) list.push(block);
      else of.set(block.worker, [block]);
    }
    for (const worker of state.workers) {
      this.row(worker.name).update(worker, of.get(worker.name) ?? [], now, offset, this.origin);
    }
  }

  private row(name: string): Lanes {
    let row = this.rows.get(name);
    if (!row) {
      row = new Lanes(name);
      this.rows.set(name, row);
    }
    return row;
  }

  /** From block to block, the newest first. */
  private move(root: HTMLElement, event: KeyboardEvent): void {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = (block: Element) => Number(block.getAttribute("x"));
    const all = [...root.querySelectorAll<SVGRectElement>(".block")].sort((a, b) => at(a) - at(b));
    const from = all.indexOf(document.activeElement as SVGRectElement);
    const to = all[from < 0 ? all.length - 1 : from + step];
    if (to) {
      to.focus();
      showTip(to);
    } else hideTip();
  }
}
