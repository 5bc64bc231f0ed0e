// Memory over time: areas one on top of the other, spilled in grey above all.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import type { Levels, Sample } from "./api";
import { byId } from "./dom";
import { bytes, clock } from "./format";

/** From the top: each is drawn over what is behind it. */
const AREAS = [
  { title: "spilled", index: 4, colour: "--grey" },
  { title: "unmanaged recent", index: 3, colour: "--blue-recent" },
  { title: "unmanaged", index: 2, colour: "--blue-unmanaged" },
  { title: "managed", index: 1, colour: "--blue" },
] as const;

/** Between two ticks of bytes: powers of two. */
const STEPS = Array.from({ length: 51 }, (_, power) => 2 ** power);

function variable(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Plot {
  private plot: uPlot | undefined;
  private samples: Sample[] = [];
  private lines: [string, number][] = [];

  constructor() {
    const root = byId("plot");
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(root);
    root.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
      if (!step || !this.plot) return;
      event.preventDefault();
      const last = this.samples.length - 1;
      const to = Math.max(0, Math.min(last, (this.plot.cursor.idx ?? last + 1) + step));
      const at = this.samples[to]?.[0] ?? 0;
      this.plot.setCursor({ left: this.plot.valToPos(at, "x"), top: this.plot.bbox.height / devicePixelRatio / 2 });
    });
  }

  /** Draws anew, with the colours of now. */
  restart(): void {
    this.plot?.destroy();
    this.plot = undefined;
    this.update(this.samples, undefined, undefined);
  }

  update(samples: Sample[], levels: Levels | undefined, limit: number | null | undefined): void {
    this.samples = samples;
    if (levels !== undefined || limit !== undefined) {
      const all = Object.entries({ ...levels, limit }) as [string, number | null | undefined][];
      this.lines = all.filter((line): line is [string, number] => typeof line[1] === "number");
    }
    const data: uPlot.AlignedData = [
      samples.map((sample) => sample[0]),
      ...AREAS.map(({ index }) =>
        samples.map((sample) => sample.slice(1, index + 1).reduce((sum, size) => sum + size, 0)),
      ),
    ];
    if (this.plot) this.plot.setData(data);
    else this.plot = this.make(data);
  }

  private size(): { width: number; height: number } {
    const width = byId("plot").clientWidth;
    return { width, height: Math.max(200, Math.min(320, width / 2)) };
  }

  private make(data: uPlot.AlignedData): uPlot {
    const text = variable("--text");
    const axis: uPlot.Axis = {
      stroke: text,
      grid: { stroke: variable("--faint"), width: 1 },
      ticks: { stroke: variable("--faint"), width: 1 },
    };
    return new uPlot(
      {
        ...this.size(),
        cursor: { drag: { setScale: false }, points: { show: false } },
        scales: { y: { range: (_, __, max) => [0, Math.max(max, ...this.lines.map(([, size]) => size), 1) * 1.05] } },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((tick) => clock(tick)), space: 90 },
          { ...axis, values: (_, ticks) => ticks.map((tick) => bytes(tick)), size: 76, incrs: STEPS },
        ],
        series: [
          { label: "time", value: (_, at) => (at === null ? "" : clock(at)) },
          ...AREAS.map(({ title, index, colour }) => ({
            label: title,
            stroke: variable("--page"),
            width: 1,
            fill: variable(colour),
            points: { show: false },
            value: (_: uPlot, __: number, ___: number, at: number | null) =>
              at === null ? "" : bytes(this.samples[at]?.[index] ?? 0),
          })),
        ],
        hooks: { draw: [(plot) => this.drawLines(plot)] },
      },
      data,
      byId("plot"),
    );
  }

  private drawLines(plot: uPlot): void {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.setLineDash([6, 4]);
    ctx.lineWidth = devicePixelRatio;
    ctx.font = `${11 * devicePixelRatio}px sans-serif`;
    ctx.textBaseline = "bottom";
    ctx.textAlign = "left";
    for (const [name, size] of this.lines) {
      const y = plot.valToPos(size, "y", true);
      ctx.strokeStyle = ctx.fillStyle = variable("--text");
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.fillText(name, bbox.left + 4 * devicePixelRatio, y - devicePixelRatio);
    }
    ctx.restore();
  }
}
