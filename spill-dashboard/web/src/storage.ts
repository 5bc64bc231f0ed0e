// The storage of each worker, as a table.

import type { Backend, State } from "./api";
import { Keyed, byId, make, set, write } from "./dom";
import { bytes, rate } from "./format";

const COLUMNS: { title: string; why: string; show: (backend: Backend) => string }[] = [
  { title: "writing", why: "Bytes a second written, over the last 5 seconds.", show: (b) => rate(b.write_rate) },
  { title: "reading", why: "Bytes a second read, over the last 5 seconds.", show: (b) => rate(b.read_rate) },
  {
    title: "ratio",
    why: "What values weighed in RAM for each byte of their records: what encoding and compression save.",
    show: (b) => (b.ratio === null ? "" : b.ratio.toFixed(2)),
  },
  { title: "queue", why: "Bytes accepted and not written yet.", show: (b) => bytes(b.queue) },
  {
    title: "failures",
    why: "Operations that failed, and keys that wait to be spilled again.",
    show: (b) => (b.deferred ? `${b.failures} (${b.deferred} waiting)` : String(b.failures)),
  },
  { title: "values", why: "Values that are there, copies of values in RAM included.", show: (b) => b.values.toLocaleString("en") },
  { title: "records", why: "Bytes of their records.", show: (b) => bytes(b.bytes) },
  { title: "files", why: "Room that the files take.", show: (b) => bytes(b.physical) },
];

export class Storage {
  private readonly none = make("p", {}, "Nothing has been written or read yet.");
  private readonly table = make("table", {});
  private readonly rows: Keyed<HTMLTableRowElement>;

  constructor() {
    const head = (title: string) => make("th", { scope: "col" }, title);
    const explained = COLUMNS.map(({ title, why }) =>
      make("th", { scope: "col", tabindex: 0, "data-tip": why }, title),
    );
    const body = make("tbody");
    this.table.append(make("thead", {}, make("tr", {}, head("worker"), head("storage"), ...explained)), body);
    byId("storage").append(this.none, this.table);
    this.rows = new Keyed(body, (key) => {
      const [worker = "", backend = ""] = JSON.parse(key) as string[];
      const cells = COLUMNS.map(({ title }) => make("td", { "data-title": title }));
      return make(
        "tr",
        { "data-worker": worker, "data-backend": backend },
        make("th", { scope: "row" }, worker),
        make("td", { "data-title": "storage" }, backend),
        ...cells,
      );
    });
  }

  update(state: State): void {
    const all = state.workers.flatMap((worker) =>
      worker.backends.map((backend) => ({ key: JSON.stringify([worker.name, backend.name]), backend })),
    );
    this.none.hidden = all.length > 0;
    this.table.hidden = all.length === 0;
    this.rows.update(all.map(({ key }) => key));
    for (const { key, backend } of all) {
      const row = this.rows.get(key);
      set(row, { class: backend.failures || backend.deferred ? "failing" : "" });
      COLUMNS.forEach(({ show }, index) => {
        const cell = row.children[index + 2];
        if (cell) write(cell, show(backend));
      });
    }
  }
}
