// Opens pages in headless Chromium and prints what it finds as JSON, for tests/test_browser.py to judge.
// Usage: node check.mjs '{"browser": PATH, "pages": {NAME: PATH, ...}, "screenshots": FOLDER}'
// Prints {NAME: {VIEW: {...}}}; a view is a colour theme at a width in CSS pixels.

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { axeResults, images, overflow, shownText, sorting, theme } from "./findings.mjs";
import { launch, newPage, VIEWS, watch } from "./views.mjs";

async function checkView(browser, path, view, screenshot) {
  const page = await newPage(browser, view);
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
    sorting: view.theme === "light" ? await sorting(page) : null,
  };
  await page.context().close();
  return { ...seen, ...findings };
}

async function main({ browser: executablePath, pages, screenshots }) {
  const browser = await launch(executablePath);
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
