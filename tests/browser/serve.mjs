// Uses the local page in headless Chromium as a person would and prints what it finds as JSON, for
// tests/test_browser_serve.py to judge.
// Usage: node serve.mjs '{"browser": PATH, "url": ADDRESS, "files": {"images": [PATH, ...], "others": [PATH, ...]},
//                         "screenshots": FOLDER}'
// Prints {VIEW: {...}}; a view is a colour theme at a width in CSS pixels.

import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { axeResults, images, overflow, shownText, theme } from "./findings.mjs";
import { launch, newPage, VIEWS, watch } from "./views.mjs";

/** What each card says: the file, its class names, the label or the fault, the classes, and the nearest images. */
function cards() {
  return [...document.querySelectorAll("#results > li")].map((card) => ({
    file: card.querySelector(".file").textContent,
    kind: card.className,
    label: card.querySelector(".label").textContent,
    top: [...card.querySelectorAll(".top li")].map((item) => item.textContent),
    near: [...card.querySelectorAll(".near img")].map((image) => image.alt),
  }));
}

/** Drop files on the page, as from a file manager. */
async function drop(page, paths) {
  const files = paths.map((path) => ({ name: basename(path), base64: readFileSync(path).toString("base64") }));
  await page.evaluate((files) => {
    const transfer = new DataTransfer();
    for (const { name, base64 } of files) {
      const type = { png: "image/png", txt: "text/plain" }[name.split(".").pop()] ?? "";
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      transfer.items.add(new File([bytes], name, { type }));
    }
    for (const kind of ["dragover", "drop"]) {
      const event = new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: transfer });
      document.getElementById("drop").dispatchEvent(event);
    }
  }, files);
}

const allDone = (count) => document.querySelectorAll("#results > li:not(.waiting)").length === count;
const picturesLoaded = () => [...document.images].every((image) => image.complete);

/** Press Tab from the top of the page and return what is reached, with whether the focus shows. */
async function tabStops(page) {
  const stops = [];
  await page.evaluate(() => document.activeElement.blur());
  for (let presses = 0; presses < 12; presses += 1) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const element = document.activeElement;
      return { name: element.id || element.className || element.tagName, outline: getComputedStyle(element).outlineStyle };
    });
    if (stop.name === "BODY" || stops.some((other) => other.name === stop.name)) break;
    stops.push(stop);
  }
  return stops;
}

async function useView(browser, { url, files, screenshots }, view) {
  const page = await newPage(browser, view);
  const seen = watch(page, url);
  const key = `${view.theme}-${view.width}`;
  const look = async () => ({ overflow: await page.evaluate(overflow), axe: await page.evaluate(axeResults) });
  await page.goto(url, { waitUntil: "load" });
  await page.screenshot({ path: join(screenshots, `serve-empty-${key}.png`), fullPage: true });
  const empty = await look();
  await page.locator("#files").setInputFiles(files.images);
  await page.waitForFunction(allDone, files.images.length);
  await drop(page, files.others);
  await page.waitForFunction(allDone, files.images.length + files.others.length);
  await page.evaluate(() => document.querySelector("details").open = true);
  await page.waitForFunction(picturesLoaded);
  await page.screenshot({ path: join(screenshots, `serve-${key}.png`), fullPage: true });
  const used = await look();
  const findings = {
    cards: await page.evaluate(cards),
    status: await page.locator("#status").textContent(),
    theme: await page.evaluate(theme),
    images: await page.evaluate(images),
    text: await page.evaluate(shownText),
    overflow: [...empty.overflow, ...used.overflow],
    axe: [...empty.axe, ...used.axe],
    stops: await tabStops(page),
  };
  await page.locator("#clear").click();
  findings.cleared = { cards: await page.evaluate(cards), status: await page.locator("#status").textContent() };
  await page.locator("#files").setInputFiles(files.images.slice(0, 1));
  await page.waitForFunction(allDone, 1);
  findings.again = (await page.evaluate(cards)).length;
  await page.context().close();
  return [key, { ...seen, ...findings }];
}

const task = JSON.parse(process.argv[2]);
const browser = await launch(task.browser);
const result = {};
for (const view of VIEWS) {
  const [key, found] = await useView(browser, task, view);
  result[key] = found;
}
await browser.close();
process.stdout.write(JSON.stringify(result));
