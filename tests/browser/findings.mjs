// What is looked at in one page. All but `sorting` run inside the page and return plain data.

/** axe-core's violations: its rule, what it means, and the elements. */
export async function axeResults() {
  const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
  return violations.map(({ id, help, nodes }) => ({
    id, help, nodes: nodes.map(({ target, html }) => ({ target: target.join(" "), html: html.slice(0, 300) })),
  }));
}

/** Every picture: its name for a screen reader, and whether it can be decoded; hidden ones are `decoration`. */
export async function images() {
  const named = (svg) => (svg.getAttribute("aria-labelledby") ?? "").split(/\s+/).filter(Boolean)
    .map((id) => document.getElementById(id)?.textContent).join(" ")
    || svg.getAttribute("aria-label") || svg.querySelector(":scope > title")?.textContent || "";
  const all = [...document.querySelectorAll("img, svg, canvas, [role=img]")];
  const found = all.filter((element) => !element.parentElement.closest("svg"));
  return Promise.all(found.map(async (element) => ({
    html: element.outerHTML.slice(0, 150),
    name: (element instanceof HTMLImageElement ? element.alt : named(element)).trim(),
    role: element instanceof HTMLImageElement ? "img" : element.getAttribute("role"),
    decoration: element.closest("[aria-hidden=true]") !== null,
    broken: element instanceof HTMLImageElement && !(await element.decode().then(() => true, () => false)),
  })));
}

/** The elements that make the page wider than the window; empty where it does not scroll sideways. */
export function overflow() {
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth <= clientWidth) return [];
  const wide = [...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > clientWidth);
  const names = wide.slice(0, 5).map((e) => e.outerHTML.slice(0, 100));
  return [`${scrollWidth} px in a window of ${clientWidth} px`, ...names];
}

/** The colours that the page's body is painted with, as [red, green, blue] from 0 to 255. */
export function theme() {
  const channels = (color) => color.match(/[\d.]+/g).slice(0, 3).map(Number);
  const style = getComputedStyle(document.body);
  const behind = style.backgroundColor === "rgba(0, 0, 0, 0)" ? document.documentElement : document.body;
  return { text: channels(style.color), background: channels(getComputedStyle(behind).backgroundColor) };
}

/** What a reader sees as text, white space as it is in the document. */
export function shownText() {
  const copy = document.body.cloneNode(true);
  copy.querySelectorAll("script, style, template").forEach((element) => element.remove());
  return copy.textContent;
}

/** The columns of the first table with buttons in its header cells: heading, aria-sort and cells from the top. */
function columns() {
  const table = document.querySelector("th button")?.closest("table");
  if (!table) return [];
  const body = [...table.tBodies[0].rows];
  return [...table.tHead.rows[0].cells].map((th, at) => ({
    heading: th.textContent.trim(),
    sortable: th.querySelector("button") !== null,
    sort: th.getAttribute("aria-sort") ?? "none",
    cells: body.map((row) => ({ text: row.cells[at].textContent.trim(), value: row.cells[at].dataset.v ?? null })),
  }));
}

/** Whether the focused element shows that it is: an outline or a shadow that it lacks without the focus. */
function focusShows() {
  const element = document.activeElement;
  const look = () => {
    const { outlineStyle, outlineWidth, boxShadow, backgroundColor } = getComputedStyle(element);
    return [outlineStyle, outlineWidth, boxShadow, backgroundColor].join();
  };
  const focused = look();
  element.blur();
  const without = look();
  element.focus({ focusVisible: true });
  return focused !== without;
}

/** Go on by Tab from the top of the page to the button of header cell `at`; false where it is never reached. */
async function tabTo(page, at) {
  await page.evaluate(() => {
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute("tabindex");
  });
  const there = (at) => {
    const table = document.querySelector("th button").closest("table");
    return table.tHead.rows[0].cells[at].querySelector("button") === document.activeElement;
  };
  for (let presses = 0; presses < 100; presses += 1) {
    if (await page.evaluate(there, at)) return true;
    await page.keyboard.press("Tab");
  }
  return false;
}

/** Sort by every column that can be, twice with the mouse and twice by the keyboard; null without such a table. */
export async function sorting(page) {
  const before = await page.evaluate(columns);
  if (before.length === 0) return null;
  const headings = page.locator("table:has(th button)").first().locator("thead tr").first().locator("th, td");
  const steps = [];
  for (const [at, { heading, sortable }] of before.entries()) {
    if (!sortable) continue;
    const record = async (by) => steps.push({ heading, at, by, columns: await page.evaluate(columns) });
    for (const by of ["click", "second click"]) {
      await headings.nth(at).getByRole("button").click();
      await record(by);
    }
    const reached = await tabTo(page, at);
    steps.push({ heading, at, by: "Tab", shows: reached && (await page.evaluate(focusShows)) });
    for (const key of ["Enter", "Space"]) {
      await page.keyboard.press(key);
      await record(key);
    }
  }
  return { before, steps };
}
