// Opens pages in headless Chromium and prints what it finds as JSON, for tests/test_browser.py to judge.
// Usage: node check.mjs '{"browser": PATH, "pages": {NAME: PATH, ...}, "screenshots": FOLDER}'
// Prints {NAME: {VIEW: {...}}}; a view is a colour theme at a width in CSS pixels.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { axeResults, images, overflow, shownText, sorting, theme } from "./findings.mjs";

const VIEWS = ["light", "dark"].flatMap((theme) => [375, 1280].map((width) => ({ theme, width })));
const FLAGS = [
  "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Record what a page asks for, says on the console and opens, from before its first line runs. */
function watch(page, url) {
  const seen = { console: [], requests: [], dialogs: [] };
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) seen.console.push(`${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => seen.console.push(`exception: ${error.message}`));
  page.on("request", (request) => {
    if (request.url() !== url && !/^(data|blob):/.test(request.url())) seen.requests.push(request.url());
  });
  page.on("dialog", async (dialog) => {
    seen.dialogs.push(dialog.message());
    await dialog.dismiss();
  });
  return seen;
}

async function checkView(browser, path, { theme: colorScheme, width }, screenshot) {
  const context = await browser.newContext({ colorScheme, viewport: { width, height: 800 }, reducedMotion: "reduce" });
  await context.addInitScript(AXE); // not by a script element, which the page's own security policy may forbid
  context.setDefaultTimeout(120_000); // a busy machine is slow, not wrong
  const page = await context.newPage();
  const url = pathToFileURL(path).href;
  const seen = watch(page, url);
  await page.goto(url, { waitUntil: "load" });
  await page.screenshot({ path: screenshot, fullPage: true });
  const closed = { overflow: await page.evaluate(overflow), axe: await page.evaluate(axeResults) };
  await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
  const findings = {
    theme: await page.evaluate(theme),
    images: await page.evaluate(images),
    overflow: [...closed.overflow, ...(await page.evaluate(overflow))],
    axe: [...closed.axe, ...(await page.evaluate(axeResults))],
    text: await page.evaluate(shownText),
    sorting: colorScheme === "light" ? await sorting(page) : null,
  };
  await context.close();
  return { ...seen, ...findings };
}

async function main({ browser: executablePath, pages, screenshots }) {
  const browser = await chromium.launch({ executablePath, args: FLAGS, chromiumSandbox: false });
  const result = {};
  for (const [name, path] of Object.entries(pages)) {
    result[name] = {};
    for (const view of VIEWS) {
      const key = `${view.theme}-${view.width}`;
      result[name][key] = await checkView(browser, path, view, join(screenshots, `${name}-${key}.png`));
    }
  }
  await browser.close();
  process.stdout.write(JSON.stringify(result));
}

await main(JSON.parse(process.argv[2]));
