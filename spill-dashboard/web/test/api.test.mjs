// The API of a live nanny: the state is what the schema says, and the metrics are what Prometheus reads.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import test from "node:test";
import { fileURLToPath } from "node:url";

import Ajv from "ajv/dist/2020.js";

import { directory, nanny, state, tell, until } from "./programs.mjs";

const PYTHON = process.env.OVERSPILL_PYTHON ?? "python3";

test("state and metrics of workers that spilled", async (t) => {
  const where = directory(t);
  const { url } = await nanny(t, where);
  await tell(where, "worker-0", "insert 250");
  await tell(where, "worker-0", "task waits 600");
  const now = await until("the worker has spilled and runs a task", async () => {
    const now = await state(url);
    const [worker] = now.workers;
    return worker.memory.spilled > 0 && worker.running[0]?.name === "waits" && worker.backends.length && now;
  });
  const schema = await (await fetch(new URL("/api/v1/schema", url))).json();
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  const valid = ajv.compile(schema);
  assert.ok(valid(now), JSON.stringify(valid.errors));
  assert.equal(valid({ ...now, total: { ...now.total, process: "much" } }), false, "and the schema can refuse");
  assert.equal(now.workers[0].running[0].name, "waits");
  assert.equal(now.workers[0].backends[0].name, "segments");

  const metrics = await fetch(new URL("/metrics", url));
  const check = fileURLToPath(new URL("metrics.py", import.meta.url));
  const said = execFileSync(PYTHON, [check], { input: await metrics.text(), encoding: "utf8" });
  assert.match(said, /families and .* samples/);

  // asked twice it ends at once; its nanny would wait for the task
  await tell(where, "worker-0", "retire");
  await tell(where, "worker-0", "retire").catch(() => undefined); // perhaps before it says that it has
});
