// The page: what the server says, in figures, bars, areas and lanes.

import "./style.css";

import { type State, VERSION, history, listen } from "./api";
import { Bars } from "./bars";
import { byId, make, write } from "./dom";
import { Stream } from "./lanes";
import { Log } from "./log";
import { Past } from "./past";
import { Plot } from "./plot";
import { Storage } from "./storage";
import { startTheme } from "./theme";
import { refreshTip, startTips } from "./tip";

const past = new Past();
const bars = new Bars();
const plot = new Plot();
const stream = new Stream();
const storage = new Storage();
const log = new Log();

let state: State | undefined;

/** A choice between all workers and one. */
class Choice {
  private readonly select: HTMLSelectElement;

  constructor(id: string, changed: () => void) {
    this.select = byId(id) as HTMLSelectElement;
    this.select.append(make("option", { value: "" }, "all workers"));
    this.select.addEventListener("change", changed);
  }

  /** The worker's name, or nothing for all. */
  get worker(): string {
    return this.select.value;
  }

  update(names: string[]): void {
    const has = [...this.select.options].slice(1).map((option) => option.value);
    if (has.length === names.length && names.every((name, index) => has[index] === name)) return;
    const chosen = this.worker;
    this.select.replaceChildren(
      make("option", { value: "" }, "all workers"),
      ...names.map((name) => make("option", { value: name }, name)),
    );
    this.select.value = names.includes(chosen) ? chosen : "";
  }
}

const ofPlot = new Choice("of", () => {
  const { worker } = ofPlot;
  if (worker) {
    history(worker)
      .then((known) => past.samples(worker).take(known, past.offset))
      .catch(() => undefined) // what the page has seen itself is shown
      .finally(drawPlot);
  }
  drawPlot();
});
const ofLog = new Choice("events-of", () => log.update(past.log, ofLog.worker));

function drawPlot(): void {
  const worker = state?.workers.find(({ name }) => name === ofPlot.worker);
  if (worker) plot.update(past.samples(worker.name).list, worker.levels, worker.limit);
  else plot.update(past.total.list, { target: null, spill: null, pause: null, terminate: null }, state?.limit ?? null);
}

startTips();
startTheme(() => plot.restart());

listen({
  hello(hello) {
    if (hello.version !== VERSION) location.reload();
    past.hello(hello);
    log.update(past.log, ofLog.worker);
  },
  news(news) {
    past.add(news.blocks, news.log);
    log.update(past.log, ofLog.worker);
  },
  state(now) {
    state = now;
    past.state(now);
    const names = now.workers.map(({ name }) => name);
    ofPlot.update(names);
    ofLog.update(names);
    bars.update(now);
    stream.update(now, past.blocks, past.offset);
    storage.update(now);
    drawPlot();
    refreshTip();
  },
  connection(live) {
    const text = byId("connection");
    write(text, live ? "live" : "connection lost, trying again");
    document.body.classList.toggle("lost", !live);
  },
});
