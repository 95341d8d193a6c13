// The colour themes and widths that pages are looked at in, and the browser that opens them.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const VIEWS = ["light", "dark"].flatMap((theme) => [375, 1280].map((width) => ({ theme, width })));
const FLAGS = [
  "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Start the browser; it reaches no other machine. */
export function launch(executablePath) {
  return chromium.launch({ executablePath, args: FLAGS, chromiumSandbox: false });
}

/** Open an empty page in a view, with axe-core at hand; its context is closed with it. */
export async function newPage(browser, { theme: colorScheme, width }) {
  const context = await browser.newContext({ colorScheme, viewport: { width, height: 800 }, reducedMotion: "reduce" });
  await context.addInitScript(AXE); // not by a script element, which the page's own security policy may forbid
  context.setDefaultTimeout(120_000); // a busy machine is slow, not wrong
  return context.newPage();
}

/** Record what a page asks for, says on the console and opens, from before its first line runs. */
export function watch(page, url) {
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
