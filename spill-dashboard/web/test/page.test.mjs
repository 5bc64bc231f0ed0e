// The page of a live nanny with two workers that spill, pause, retire and are ended.

import assert from "node:assert/strict";
import test from "node:test";

import { browser, looks, open, picture, row } from "./browser.mjs";
import { directory, nanny, state, tell, until } from "./programs.mjs";

const MIB = 1 << 20;
const [ONE, TWO] = ["worker-0", "worker-1"];

/** Each piece of what is in RAM has this colour, and what is on disk is grey. */
async function coloured(page, worker, colour) {
  return until(`${worker} is ${colour}`, async () => {
    const shown = await row(page, worker);
    const right = ({ part, bytes, colour: seen }) => bytes === 0 || looks(seen, part === "spilled" ? "grey" : colour);
    return shown.pieces.every(right) && shown.pieces.some(({ bytes }) => bytes > 0) && shown;
  });
}

function sum(pieces, parts) {
  return pieces.filter(({ part }) => parts.includes(part)).reduce((all, { bytes }) => all + bytes, 0);
}

/** The width of the pieces, and their figures, are those of the API at about the same time. */
function addsUp(shown, limit) {
  const ram = ["managed", "unmanaged", "unmanaged_recent"];
  const process = sum(shown.pieces, ram);
  assert.ok(process > MIB, JSON.stringify(shown));
  for (const { part, bytes } of shown.pieces) {
    const title = part.replace("_", " ");
    const text = new RegExp(`· ${title} ([0-9.]+) (B|KiB|MiB|GiB)`).exec(shown.figures);
    const unit = { B: 1, KiB: 1 << 10, MiB: MIB, GiB: 1 << 30 }[text[2]];
    assert.ok(Math.abs(Number(text[1]) * unit - bytes) <= 0.006 * bytes + 1, `${title}: ${text[0]} for ${bytes}`);
  }
  const told = /process ([0-9.]+) MiB/.exec(shown.figures);
  assert.ok(Math.abs(Number(told[1]) * MIB - process) <= 0.006 * process, `${told[0]} for ${process}`);
  assert.equal(shown.lines.find(({ level }) => level === "limit").bytes, limit);
}

test("a worker's life as the page shows it", async (t) => {
  const where = directory(t);
  const { url } = await nanny(t, where);
  const { page, errors } = await open(await browser(t), url);
  const live = await until("both workers show themselves", async () => {
    const now = await state(url);
    return now.workers.every(({ uptime }) => uptime > 0) && now;
  });
  const limit = live.workers[0].limit;
  assert.equal(limit, 300 * MIB);

  /** S19: the whole cluster and each worker, on one page. */
  await t.test("all workers and each worker have a bar", async () => {
    await page.locator(".worker").nth(1).waitFor();
    const names = await page.locator(".worker strong").allTextContents();
    assert.deepEqual(names, [ONE, TWO]);
    const shown = await coloured(page, ONE, "blue");
    assert.equal(shown.status, "running");
    addsUp(shown, limit);
    const total = await page.locator("#total").evaluate((total) => ({
      bytes: [...total.querySelectorAll(".piece")].reduce((sum, piece) => sum + Number(piece.dataset.bytes), 0),
      rows: [...document.querySelectorAll(".worker .piece")].reduce((sum, piece) => sum + Number(piece.dataset.bytes), 0),
      figures: total.querySelector(".figures").textContent,
    }));
    assert.equal(total.bytes, total.rows, "the bar of all is the sum of the bars");
    assert.match(total.figures, /of 600 MiB .* 2 workers/);
    await picture(page, "1-normal");
  });

  await t.test("each reading and threshold is explained, by the mouse and by the keyboard", async () => {
    const tip = page.getByRole("tooltip");
    await page.locator(`.worker[data-worker="${ONE}"] .line.pause`).hover();
    await tip.waitFor();
    assert.match(await tip.textContent(), /^pause, 240 MiB: above this no further task starts\.$/);
    await page.mouse.move(0, 0);
    await tip.waitFor({ state: "hidden" });

    await page.locator(`.worker[data-worker="${ONE}"] .piece[tabindex="0"]`).focus();
    const seen = [];
    for (let step = 0; step < 9; step += 1) {
      seen.push((await tip.textContent()).split(",")[0]);
      const described = await page.evaluate(() => document.activeElement.getAttribute("aria-describedby"));
      assert.equal(described, "tip");
      await page.keyboard.press("ArrowRight");
    }
    const expected = ["managed", "unmanaged", "unmanaged recent", "spilled", "target", "spill", "pause", "terminate", "limit"];
    assert.deepEqual(seen, expected);
    await page.keyboard.press("ArrowDown");
    assert.match(await tip.textContent(), /^limit/);
    await page.keyboard.press("Escape");
    await tip.waitFor({ state: "hidden" });

    const shown = await row(page, ONE);
    for (const [level, fraction] of Object.entries({ target: 0.6, spill: 0.7, pause: 0.8, terminate: 0.95 })) {
      const line = shown.lines.find((line) => line.level === level);
      assert.ok(Math.abs(line.share - fraction) < 0.02, `${level} is drawn at ${line.share}`);
    }
  });

  /** S27, S09: orange where it may be spilling, grey for what is on disk. */
  await t.test("a worker that spills is orange, and what it spilled is grey", async () => {
    await tell(where, ONE, "insert 400");
    const shown = await until("spilled bytes are shown", async () => {
      const shown = await row(page, ONE);
      const spilled = shown.pieces.find(({ part }) => part === "spilled");
      return spilled.bytes > 100 * MIB && spilled.share > 0.2 && shown;
    });
    const spilled = shown.pieces.find(({ part }) => part === "spilled");
    assert.ok(looks(spilled.colour, "grey"), spilled.colour);
    assert.match(spilled.tip, /^spilled, .*: values on disk, in the size that they have there\.$/);
    await tell(where, ONE, "hold 20"); // above `target`
    await coloured(page, ONE, "orange");
    await coloured(page, TWO, "blue");
    addsUp(await row(page, ONE), limit);
  });

  /** S08: disk writes and reads are orange blocks of the stream. */
  await t.test("tasks and the disk's work are blocks, the disk's are orange", async () => {
    const began = performance.now();
    await tell(where, ONE, "task a&nbsp;<b>task</b> 1.5");
    await tell(where, ONE, "read");
    const blocks = () =>
      page.locator("#lanes .block").evaluateAll((blocks) =>
        blocks.map((block) => ({
          kind: block.classList[1],
          fill: getComputedStyle(block).fill,
          width: block.getBoundingClientRect().width,
          tip: block.dataset.tip,
        })),
      );
    const shown = await until("a task, writes and reads are shown", async () => {
      const shown = await blocks();
      const has = (kind) => shown.some((block) => block.kind === kind);
      return has("write") && has("read") && shown.some(({ tip }) => tip.includes("ran for")) && shown;
    });
    const took = (performance.now() - began) / 1000;
    for (const { kind, fill, width, tip } of shown) {
      assert.ok(looks(fill, kind === "task" ? "blue" : "orange"), `${kind} is ${fill}`);
      assert.ok(width > 0.5, "and can be seen");
      if (kind !== "task") assert.match(tip, /worker-0: (writing|reading) [0-9,]+ values? of .* took/);
    }
    const task = shown.find(({ tip }) => tip.includes("ran for"));
    const ran = /^worker-0: a&nbsp;<b>task<\/b> ran for ([0-9]+\.[0-9]) s\.$/.exec(task.tip);
    assert.ok(ran, task.tip);
    const time = Number(ran[1]); // to a tenth
    assert.ok(time >= 1.5 && time <= took + 0.05, `${task.tip} after ${took} s`);
    assert.equal(await page.locator("#lanes b").count(), 0, "names are text only");

    await page.locator("#lanes").focus();
    await page.keyboard.press("ArrowLeft");
    assert.match(await page.getByRole("tooltip").textContent(), /worker-0: /);
    await page.keyboard.press("Escape");
    await picture(page, "2-spilling");
  });

  await t.test("storage has throughput, ratio, queue and failures", async () => {
    const cells = page.locator(`tr[data-worker="${ONE}"][data-backend="segments"] td`);
    const texts = await until("what is read is shown", async () => {
      await tell(where, ONE, "read"); // a rate is that of the last seconds
      const shown = await cells.evaluateAll((cells) => cells.map((cell) => [cell.dataset.title, cell.textContent]));
      const texts = Object.fromEntries(shown);
      return /iB\/s$/.test(texts.reading) && texts;
    });
    assert.match(texts.ratio, /^(0\.99|1\.00)$/);
    assert.match(texts.queue, / B$|iB$/);
    assert.equal(texts.failures, "0");
    assert.ok(Number(texts.values.replace(",", "")) > 100, JSON.stringify(texts));
  });

  /** S09: the memory plot has a grey section. */
  await t.test("memory over time has a grey area where values were spilled", async () => {
    const greys = async () =>
      page.locator("#plot canvas").evaluate((canvas) => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const count = { grey: 0, blue: 0 };
        for (let at = 0; at < data.length; at += 4) {
          const [r, g, b, a] = data.slice(at, at + 4);
          if (a < 255) continue;
          if (r === 0x8b && g === 0x94 && b === 0x9e) count.grey += 1;
          if (b - r > 60) count.blue += 1;
        }
        return count;
      });
    const seen = await greys();
    assert.ok(seen.grey > 500 && seen.blue > 100, JSON.stringify(seen));
    await page.locator("#of").selectOption(TWO);
    await until("a worker that spilled nothing has no grey", async () => (await greys()).grey < 20);
    await page.locator("#of").selectOption("");
    await page.locator("#plot").focus();
    await page.keyboard.press("ArrowLeft");
    const legend = await page.locator("#plot .u-legend").textContent();
    assert.match(legend, /spilled.*iB.*managed.*iB/s, "the arrow keys read values");
  });

  /** S27: red while paused. */
  await t.test("a paused worker is red, and tasks that wait start when it resumes", async () => {
    await tell(where, TWO, "hold 250"); // above `pause`, below `terminate`
    const shown = await coloured(page, TWO, "red");
    assert.equal(shown.status, "paused");
    const paused = page.locator(`#log li[data-worker="${TWO}"][data-kind="paused"]`).first();
    assert.match(await paused.textContent(), /worker-1 paused .*of the limit/);
    await tell(where, TWO, "task waited 0.5");
    await picture(page, "3-paused");
    assert.match((await row(page, TWO)).figures, / 0 tasks /);
    await tell(where, TWO, "free");
    await page.locator(`.worker[data-worker="${TWO}"][data-status="running"]`).waitFor();
    await page.locator(`#log li[data-worker="${TWO}"][data-kind="resumed"]`).first().waitFor();
    await page.locator('#lanes .block[data-tip^="worker-1: waited ran for"]').first().waitFor({ state: "attached" });
  });

  await t.test("the log tells how a worker was ended by its nanny and started again, in order", async () => {
    const before = (await state(url)).workers[1].pid;
    await tell(where, TWO, "hold 400").catch(() => undefined); // it does not live to say that it has
    const log = page.locator(`#log li[data-worker="${TWO}"]`);
    await until("the log tells of its end", async () => {
      const kinds = (await log.evaluateAll((lines) => lines.map((line) => line.dataset.kind))).reverse();
      const ended = kinds.lastIndexOf("ended");
      const forced = kinds.findLastIndex((kind) => kind === "killed" || kind === "terminating");
      return forced >= 0 && forced < ended && kinds.indexOf("restarting", ended) > ended && kinds;
    });
    await until("it is there again", async () => {
      const worker = (await state(url)).workers[1];
      return worker.pid && worker.pid !== before && worker.restarts === 1 && worker.uptime > 0;
    });
    const shown = await coloured(page, TWO, "blue");
    assert.match(shown.figures, /started again 1 time/);
    await picture(page, "4-ended-and-restarted");
  });

  /** S27: red while it retires. */
  await t.test("a retiring worker is red, then terminated without memory", async () => {
    await tell(where, ONE, "task last 600");
    await tell(where, ONE, "retire");
    const shown = await coloured(page, ONE, "red");
    assert.equal(shown.status, "retiring");
    await picture(page, "5-retiring");
    await tell(where, ONE, "retire").catch(() => undefined); // it ends at once, perhaps before it says that it has
    await page.locator(`.worker[data-worker="${ONE}"][data-status="terminated"]`).waitFor();
    await page.locator(`#log li[data-worker="${ONE}"][data-kind="ended"]`).first().waitFor();
    // it says so while its process is still there
    await until("it has no memory", async () => {
      const { pieces } = await row(page, ONE);
      return sum(pieces, ["managed", "unmanaged", "unmanaged_recent", "spilled"]) === 0;
    });
    const badge = page.locator(`.worker[data-worker="${ONE}"] .status`);
    assert.ok(looks(await badge.evaluate((badge) => getComputedStyle(badge).borderTopColor), "red"));
    await picture(page, "6-terminated");
  });

  await t.test("the log can be read for one worker", async () => {
    await page.locator("#events-of").selectOption(TWO);
    const workers = await page.locator("#log strong").allTextContents();
    assert.ok(workers.length > 3 && workers.every((worker) => worker === TWO), workers.join());
  });

  assert.deepEqual(errors, [], "no script failed, and the policy refused nothing");
});

test("the page outlives a restart of the server", async (t) => {
  const where = directory(t);
  // not a port that the system chooses: it may give that to somebody else once it is free
  const first = await nanny(t, where, { workers: 1, port: 20_000 + (process.pid % 10_000) });
  const { page, errors } = await open(await browser(t), first.url);
  await page.locator('#log li[data-kind="started"]').first().waitFor();
  const before = await page.locator("#log li").count();
  first.child.kill("SIGKILL");
  await first.ended;
  await page.getByRole("status").filter({ hasText: "connection lost" }).waitFor();
  const again = await nanny(t, where, { workers: 1, port: new URL(first.url).port });
  assert.equal(again.url, first.url);
  await page.getByRole("status").filter({ hasText: "live" }).waitFor();
  await until("the new server's events follow the old one's", async () => (await page.locator("#log li").count()) > before);
  assert.deepEqual(errors, []);
});

test("a phone in the dark, and names that try to be more than text", async (t) => {
  const where = directory(t);
  const name = `<img src=x onerror="document.title='taken'">`;
  const { url } = await nanny(t, where, { workers: 1, environment: { OVERSPILL_WORKER__NAME: name } });
  const context = await browser(t, { viewport: { width: 360, height: 740 }, colorScheme: "dark" });
  const { page, errors } = await open(context, url);
  await page.locator(".worker").first().waitFor();
  const scrolls = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  assert.equal(scrolls, false, "nothing is wider than the phone");
  const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await back();
  const theme = page.getByRole("button", { name: /colours/ });
  await theme.click();
  assert.match(await theme.textContent(), /light/);
  assert.notEqual(await back(), dark);
  await picture(page, "7-phone-light");
  await theme.click();
  assert.equal(await back(), dark);
  await page.reload();
  assert.match(await theme.textContent(), /dark/, "the choice is kept");
  await page.locator(".worker").first().waitFor();
  await picture(page, "8-phone-dark");
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(await page.title(), "Overspill");
  assert.deepEqual(errors, []);
});
