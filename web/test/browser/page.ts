/** A browser at a server that runs: what tests look at, and do with mouse and keys. */

import { join } from "node:path";
import { chromium, type Browser, type Locator, type Page } from "playwright-core";

const ADDRESS = process.env["LIMNER"] ?? "http://127.0.0.1:8188";
const PICTURES = process.env["SCREENSHOTS"];
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", // a page cannot reach out
];

export const started = (): Promise<Browser> => chromium.launch({ executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium", args: FLAGS });

/** A tab of its own, with an empty browser behind it.  What the page complains of is collected. */
export async function opened(browser: Browser): Promise<{ page: Page; complaints: string[]; requests: string[] }> {
  const page = await browser.newPage({ viewport: { width: 1600, height: 900 } });
  const complaints: string[] = [];
  const requests: string[] = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(ADDRESS);
  await page.locator("article.node").first().waitFor();
  return { page, complaints, requests };
}

export const node = (page: Page, id: string): Locator => page.locator(`.react-flow__node[data-id="${id}"]`);
export const field = (page: Page, id: string, name: string): Locator => node(page, id).getByLabel(name, { exact: true });
export const dot = (page: Page, id: string, handle: string): Locator => node(page, id).locator(`[data-handleid="${handle}"]`);
export const runButton = (page: Page): Locator => page.locator(".bar .run");
export const link = (page: Page, id: string): Locator => page.locator(`.react-flow__edge[data-id="${id}"]`);

/** Press at one place, go to the other in steps as a hand does, and let go. */
export async function drag(page: Page, from: { x: number; y: number }, to: { x: number; y: number }): Promise<void> {
  await page.mouse.move(from.x, from.y);
  await page.mouse.down();
  await page.mouse.move((from.x + to.x) / 2, (from.y + to.y) / 2, { steps: 4 });
  await page.mouse.move(to.x, to.y, { steps: 4 });
  await page.mouse.up();
}

export async function middle(locator: Locator): Promise<{ x: number; y: number }> {
  const box = (await locator.boundingBox())!;
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
}

/** Keep what the page looks like now, where somebody asked for pictures. */
export async function shot(page: Page, name: string): Promise<void> {
  if (PICTURES) await page.screenshot({ path: join(PICTURES, `${name}.png`) });
}
