// Chromium, as a person would see the page.

import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

import { remove } from "./programs.mjs";

const SCREENSHOTS = fileURLToPath(new URL("../../../target/screenshots", import.meta.url));

const ARGUMENTS = [
  "--no-sandbox", // it runs as root where tests do
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];

/** A browser with a fresh profile; its pages note every error of their scripts. */
export async function browser(t, options = {}) {
  const profile = mkdtempSync(join(tmpdir(), "overspill-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.OVERSPILL_CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ARGUMENTS,
    viewport: { width: 1200, height: 1000 },
    ...options,
  });
  t.after(async () => {
    await context.close();
    await remove(profile);
  });
  return context;
}

/** A page at this address, live, and the errors of its scripts. */
export async function open(context, url) {
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    // While a server restarts, requests fail; that is what the page is to outlive.
    const network = message.text().includes("net::ERR");
    if (message.type() === "error" && !network) errors.push(message.text());
  });
  await page.goto(url);
  await page.getByRole("status").filter({ hasText: "live" }).waitFor();
  return { page, errors };
}

/** A picture for people, in target/screenshots. */
export async function picture(page, name) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true, animations: "disabled" });
}

/** Whether a colour as the browser computed it is the one meant: by hue, so that themes may differ in shade. */
export function looks(colour, meant) {
  const [r, g, b] = /rgba?\((\d+), (\d+), (\d+)/.exec(colour).slice(1).map(Number);
  const [most, least] = [Math.max(r, g, b), Math.min(r, g, b)];
  const grey = most - least < 30;
  const by = {
    r: () => (g - b) / (most - least),
    g: () => 2 + (b - r) / (most - least),
    b: () => 4 + (r - g) / (most - least),
  };
  const hue = ((most === r ? by.r() : most === g ? by.g() : by.b()) * 60 + 360) % 360;
  switch (meant) {
    case "grey":
      return grey;
    case "blue":
      return !grey && hue > 195 && hue < 225;
    case "orange":
      return !grey && hue > 22 && hue < 45;
    case "red":
      return !grey && (hue > 345 || hue < 12);
    default:
      throw new Error(`no colour ${meant}`);
  }
}

/** A worker's row as a person sees it: colours as computed, sizes as drawn and as told. */
export async function row(page, worker) {
  return page.locator(`.worker[data-worker="${worker}"]`).evaluate((row) => {
    const bar = row.querySelector(".bar").getBoundingClientRect();
    const pieces = [...row.querySelectorAll(".piece")].map((piece) => ({
      part: piece.dataset.part,
      bytes: Number(piece.dataset.bytes),
      share: piece.getBoundingClientRect().width / bar.width,
      colour: getComputedStyle(piece).backgroundColor,
      tip: piece.dataset.tip,
    }));
    const lines = [...row.querySelectorAll(".line")].map((line) => {
      const at = line.getBoundingClientRect();
      return {
        level: line.dataset.part,
        bytes: Number(line.dataset.bytes),
        share: (at.left + at.width / 2 - bar.left) / bar.width,
        tip: line.dataset.tip,
      };
    });
    return {
      status: row.querySelector(".status").textContent,
      figures: row.querySelector(".figures").textContent,
      pieces,
      lines,
    };
  });
}
