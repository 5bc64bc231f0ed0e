// The event log, the newest first.

import type { LogEntry } from "./api";
import { Keyed, byId, make } from "./dom";
import { clock } from "./format";
import type { Kept } from "./past";

/** Lines that are shown. */
const MOST = 300;

/** Kinds that a person should not miss. */
const LOUD = ["paused", "paused_long", "unmanaged_high", "terminating", "killed"];

export class Log {
  private readonly entries = new Map<string, Kept<LogEntry>>();
  private readonly lines: Keyed<HTMLLIElement>;
  private last = "";

  constructor() {
    this.lines = new Keyed(byId("log"), (key) => {
      const entry = this.entries.get(key);
      if (!entry) return make("li");
      const time = new Date(entry.at * 1000).toISOString();
      return make(
        "li",
        { "data-kind": entry.kind, "data-worker": entry.worker, class: LOUD.includes(entry.kind) ? "loud" : "" },
        make("time", { datetime: time }, clock(entry.at)),
        " ",
        make("strong", {}, entry.worker),
        " ",
        make("em", {}, entry.title),
        " ",
        make("span", {}, entry.text),
      );
    });
  }

  update(log: Kept<LogEntry>[], worker: string): void {
    const shown = log.filter((entry) => !worker || entry.worker === worker).slice(-MOST);
    const key = `${worker}/${shown.length}/${shown[0]?.key}/${shown[shown.length - 1]?.key}`;
    if (key === this.last) return;
    this.last = key;
    this.entries.clear();
    for (const entry of shown) this.entries.set(entry.key, entry);
    this.lines.update(shown.map((entry) => entry.key).reverse());
  }
}
