/** Every page: readable by everybody, at every width, in both schemes; and honest when the server is away. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { AxeResults } from "axe-core";
import type { Page } from "@playwright/test";
import { addDataset, expect, picture, PLAN_MS, test } from "./studio";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8");
const PAGES = ["/upload", "/training", "/dashboard", "/playground", "/models", "/machine", "/nowhere"];

/** Contrast included, which only a real browser can measure. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const results = await page.evaluate(() => (window as unknown as { axe: { run: () => Promise<AxeResults> } }).axe.run());
  return results.violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 160)}`));
}

test("every page passes axe in light and dark, wide and narrow", async ({ browser, studio }) => {
  const id = await addDataset(studio);
  for (const [colorScheme, width] of [["light", 1440], ["dark", 360]] as const) {
    const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 }, baseURL: studio, reducedMotion: "reduce" });
    const page = await context.newPage();
    for (const path of [...PAGES, `/datasets/${id}`]) {
      await page.goto(path);
      await expect(page.locator("main h1, main p").first()).toBeVisible();
      await expect(page.locator(".mantine-Skeleton-root")).toHaveCount(0);
      if (path === "/training") await expect(page.getByTestId("plan")).toHaveAttribute("aria-busy", "false", { timeout: PLAN_MS });
      expect(await violations(page), `${path} ${colorScheme} ${width}`).toEqual([]);
      await picture(page, `page${path.replaceAll("/", "-").replace(id, "id")}-${colorScheme}-${width}`);
    }
    await context.close();
  }
});

test("a model that is too big warns and can be started all the same; numbers out of range are named in place", async ({ page, studio }) => {
  await addDataset(studio);
  await page.goto("/training?model=meta-llama/Llama-2-7b-hf");
  await expect(page.getByTestId("model-facts")).toBeVisible();
  await page.getByRole("button", { name: "Advanced settings" }).click();
  const rate = page.getByRole("textbox", { name: "Learning rate" });
  await rate.fill("7");
  await expect(page.getByText("At most 1.")).toBeVisible();
  await expect(page.getByRole("button", { name: "Start Training" })).toBeDisabled();
  await rate.fill("2e-4");
  // An adapter of this rank for a model of this size is beyond any machine that runs the tests.
  await page.getByRole("textbox", { name: "LoRA rank" }).fill("1024");
  await expect(page.getByTestId("plan")).toContainText(/needs about \d+/, { timeout: PLAN_MS });
  await expect(page.getByRole("button", { name: "Start Training" })).toBeEnabled();
});

test("a server that does not answer is said, and the page recovers by itself", async ({ page }) => {
  await page.goto("/models");
  await expect(page.getByRole("heading", { name: "GPT-2 (124M)" })).toBeVisible();
  await page.route("**/api/**", (route) => route.abort());
  await page.evaluate(() => window.dispatchEvent(new Event("visibilitychange")));
  await expect(page.getByText("The server does not answer").first()).toBeVisible({ timeout: 40_000 });
  await expect(page.getByRole("heading", { name: "GPT-2 (124M)" })).toBeVisible();
  await page.unroute("**/api/**");
  await expect(page.getByText("The server does not answer")).toHaveCount(0);
});

test("a file that cannot be read says why", async ({ page }) => {
  await page.goto("/upload");
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Choose a file" }).click();
  await (await chooser).setFiles({ name: "broken.json", mimeType: "application/json", buffer: Buffer.from('[{"question": "a", ') });
  await expect(page.getByRole("alert")).toBeVisible();
  await picture(page, "broken-file");
});

test("the API reference works without any other host", async ({ page }) => {
  const hosts = new Set<string>();
  page.on("request", (request) => hosts.add(new URL(request.url()).hostname));
  await page.goto("/docs");
  await expect(page.getByText("/api/start-finetuning").first()).toBeVisible();
  expect([...hosts]).toEqual(["localhost"]);
});
