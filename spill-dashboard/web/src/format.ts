// Figures for people.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Bytes with three digits and a binary unit. */
export function bytes(value: number): string {
  let unit = 0;
  let shown = Math.abs(value);
  while (shown >= 999.5 && unit < UNITS.length - 1) {
    shown /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || shown >= 99.95 ? 0 : shown >= 9.995 ? 1 : 2;
  return `${value < 0 ? "-" : ""}${shown.toFixed(digits)} ${UNITS[unit]}`;
}

export function rate(value: number): string {
  return `${bytes(Math.round(value))}/s`;
}

export function share(value: number, limit: number | null): string {
  return limit ? `, ${Math.round((value / limit) * 100)}% of the limit` : "";
}

export function duration(seconds: number): string {
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

/** A time of day. */
export function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}
