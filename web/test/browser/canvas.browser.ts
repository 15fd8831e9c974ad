import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";

import { dot, drag, field, link, middle, node, opened, runButton, shot, started } from "./page";

let browser: Browser;
beforeAll(async () => {
  browser = await started();
});
afterAll(async () => {
  await browser.close();
});

const untouched = { x: 800, y: 850 }; // a place on the canvas where nothing is

test("a new page shows a workflow that can run, with few requests and no complaint", async () => {
  const { page, complaints, requests } = await opened(browser);
  await expect.poll(() => page.locator("article.node").count()).toBe(10);
  await expect.poll(() => runButton(page).textContent()).toContain("of 10 nodes");
  expect(requests.length).toBeLessThanOrEqual(10);
  expect(complaints).toEqual([]);
  await shot(page, "first");
  await page.close();
});

test("Ctrl+Enter draws the picture, and a reload loses nothing", async () => {
  const { page, complaints } = await opened(browser);
  await expect.poll(() => runButton(page).textContent()).toContain("Run");
  await field(page, "sample", "seed").fill(String(Date.now() % 1_000_000)); // nothing of it is cached yet
  await page.keyboard.press("Control+Enter");
  await page.locator("article.running").first().waitFor();
  await page.locator(".badge", { hasText: "/20" }).waitFor({ timeout: 60_000 });
  await shot(page, "running");
  const picture = node(page, "save").locator(".picture img");
  await picture.waitFor({ timeout: 90_000 });
  await expect.poll(() => picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBe(64);
  await page.getByText(/^Done in/).waitFor();
  await shot(page, "done");
  await field(page, "sample", "sampler").selectOption("euler");
  await expect.poll(() => runButton(page).textContent()).toMatch(/^Run [34] of 10 nodes/);
  await shot(page, "changed");
  await page.locator("[data-kept=true]").waitFor();
  await page.reload();
  await picture.waitFor();
  await expect.poll(() => field(page, "sample", "sampler").inputValue()).toBe("euler");
  await page.mouse.click(untouched.x, untouched.y);
  await page.keyboard.press("Control+z");
  await expect.poll(() => field(page, "sample", "sampler").inputValue()).toBe("dpmpp_2m");
  expect(complaints).toEqual([]);
  await page.close();
});

test("a node is found by a few letters, added where the pointer is, and taken away again", async () => {
  const { page } = await opened(browser);
  await page.mouse.dblclick(untouched.x, untouched.y);
  await page.keyboard.type("empty lat");
  await shot(page, "palette");
  await page.keyboard.press("Enter");
  await node(page, "empty-latent").waitFor();
  await page.keyboard.press("Delete");
  await expect.poll(() => node(page, "empty-latent").count()).toBe(0);
  await page.keyboard.press("Control+z");
  await node(page, "empty-latent").waitFor();
  await page.close();
});

test("a link is drawn by hand, refused where it does not fit, and dropped on nothing it asks for a node", async () => {
  const { page } = await opened(browser);
  const scheduled = link(page, "schedule.0>sample.sigmas");
  await scheduled.waitFor({ state: "attached" });
  await drag(page, await middle(dot(page, "load", "out:2")), await middle(dot(page, "sample", "in:sigmas")));
  await expect.poll(() => link(page, "load.2>sample.sigmas").count()).toBe(0);
  await drag(page, await middle(dot(page, "encode", "out:0")), await middle(dot(page, "guide", "in:negative")));
  await link(page, "encode.0>guide.negative").waitFor({ state: "attached" });
  await drag(page, await middle(dot(page, "decode", "out:0")), untouched);
  await page.getByRole("dialog").waitFor();
  await page.keyboard.type("preview");
  await page.keyboard.press("Enter");
  await expect.poll(() => page.locator('.react-flow__edge[data-id^="decode.0>"]').count()).toBe(2);
  await page.close();
});

test("an example is shown whole, and opening it is undone like anything else", async () => {
  const { page } = await opened(browser);
  await page.getByLabel("Examples").selectOption("samplers-compared");
  await expect.poll(() => page.locator("article.node").count()).toBe(26);
  await shot(page, "example");
  await page.keyboard.press("Control+z");
  await expect.poll(() => page.locator("article.node").count()).toBe(10);
  await page.close();
});

test("a node is moved by its title, and one undo puts it back", async () => {
  const { page } = await opened(browser);
  const title = node(page, "decode").locator("h2");
  const before = await middle(title);
  await drag(page, before, { x: before.x, y: before.y + 150 });
  await expect.poll(async () => (await middle(title)).y).toBeGreaterThan(before.y + 100);
  await page.keyboard.press("Control+z");
  await expect.poll(async () => Math.abs((await middle(title)).y - before.y)).toBeLessThan(2);
  await page.close();
});

test("what is wrong is said on the input and in the list, and a word typed is one undo", async () => {
  const { page } = await opened(browser);
  const steps = field(page, "schedule", "steps");
  await steps.fill("0");
  await node(page, "schedule").locator(".row.wrong").waitFor();
  await page.getByRole("complementary").getByText("schedule.steps").waitFor();
  await shot(page, "problem");
  await steps.fill("12");
  await page.mouse.click(untouched.x, 700);
  await page.keyboard.press("Control+z");
  await expect.poll(() => steps.inputValue()).toBe("20");
  await page.close();
});

test("a muted node leaves what needs it blocked, and Ctrl+M again mends it", async () => {
  const { page } = await opened(browser);
  await node(page, "load").locator("h2").click();
  await page.keyboard.press("Control+m");
  await node(page, "load").locator("article.mute").waitFor();
  await node(page, "sample").locator("article.blocked").waitFor();
  await expect.poll(() => runButton(page).textContent()).toBe("Run");
  await page.keyboard.press("Control+m");
  await expect.poll(() => page.locator("article.blocked").count()).toBe(0);
  await page.close();
});
