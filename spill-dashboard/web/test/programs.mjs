// The programs under test: a nanny with its dashboard, and the workers that do what they are told.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const BUILT = process.env.OVERSPILL_BUILT ?? join(ROOT, "target/debug");

/** How long something may take that takes no time when all is well. */
export const PATIENCE = 60_000;

/** Asks again until it holds. */
export async function until(what, ask) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`never came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Removes a directory that processes may still write in: what they add meanwhile goes with the next try. */
export function remove(directory) {
  // `rmSync` would try again to remove the directory only, not what is new in it
  return rm(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}

/** A directory that goes with the test. */
export function directory(t) {
  const made = mkdtempSync(join(tmpdir(), "overspill-test-"));
  t.after(() => remove(made));
  return made;
}

/** A nanny of two driven workers, with a dashboard at `port`. */
export async function nanny(t, directory, { port = 0, limit = "300MiB", workers = 2, environment = {} } = {}) {
  const child = spawn(
    join(BUILT, "overspill"),
    [
      "nanny",
      `--workers=${workers}`,
      "--nthreads=2",
      `--memory-limit=${limit}`,
      `--dashboard=${port}`,
      `--local-directory=${directory}`,
      "--set",
      "worker.memory.recent-to-old-time=3s",
      "--",
      join(BUILT, "examples/driven"),
      directory,
    ],
    { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...environment } },
  );
  const ended = once(child, "exit");
  const lines = [];
  t.after(async () => {
    child.kill("SIGTERM");
    const late = setTimeout(() => child.kill("SIGKILL"), 5000);
    await ended;
    clearTimeout(late);
    if (!t.passed) console.error(lines.join("\n"));
  });
  const url = await new Promise((resolve, reject) => {
    createInterface(child.stderr).on("line", (line) => {
      lines.push(line);
      const found = /dashboard at (\S+)/.exec(line);
      if (found) resolve(found[1]);
    });
    ended.then(() => reject(new Error(`the nanny ended:\n${lines.join("\n")}`)));
  });
  return { child, url, ended };
}

/** Tells a worker what to do, and waits until it is done. */
export async function tell(directory, worker, command) {
  const path = join(directory, `${worker}.sock`);
  const socket = await until(`${worker} listens`, () => {
    const socket = createConnection(path);
    return new Promise((resolve) => {
      socket.once("connect", () => resolve(socket));
      socket.once("error", () => resolve(undefined));
    });
  });
  socket.write(`${command}\n`);
  const lines = createInterface(socket);
  const answer = await new Promise((resolve) => {
    lines.once("line", resolve);
    lines.once("close", () => resolve("it went away"));
    socket.once("error", () => resolve("it went away"));
  });
  socket.destroy();
  if (answer !== "done") throw new Error(`${command}: ${answer}`);
}

/** The state as the API gives it. */
export async function state(url) {
  const answer = await fetch(new URL("/api/v1/state", url));
  return answer.json();
}
