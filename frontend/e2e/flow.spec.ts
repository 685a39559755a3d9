/** The owner's flow with a real server, a real training of the embedded model and a real browser. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { expect, HELPDESK, picture, PLAN_MS, test } from "./studio";

/** Enough rows for a held-out part, few enough for two cores. */
const ROWS = 60;
/** Generous: the machine may be busy with something else. */
const TRAINING_MS = 500_000;

/** The first rows of the sample as a file of its own. */
function smallFile(): string {
  const lines = readFileSync(HELPDESK, "utf8").split("\n").slice(0, ROWS + 1);
  const path = join(mkdtempSync(join(tmpdir(), "affinage-csv-")), "cellar.csv");
  writeFileSync(path, `${lines.join("\n")}\n`);
  return path;
}

async function upload(page: Page, button: string): Promise<void> {
  await page.goto("/");
  await expect(page).toHaveURL(/\/upload/);
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: button }).click();
  await (await chooser).setFiles(smallFile());
  await expect(page.getByTestId("dataset")).toBeVisible();
}

const job = (page: Page, status: string) => page.locator(`[data-testid=job][data-status=${status}]`);

test.describe.configure({ mode: "serial" });

test("a newcomer goes from a file to a tested model, and a reload or a second browser shows the same", async ({ page, browser }) => {
  await upload(page, "Choose a file");
  await expect(page.getByTestId("dataset")).toContainText("Questions and answers");
  await expect(page.getByText("No problems found.")).toBeVisible();
  await picture(page, "1-upload");

  await page.getByRole("link", { name: "Configure Training" }).first().click();
  await expect(page).toHaveURL(/\/training\?dataset=/);
  await expect(page.getByRole("textbox", { name: "Epochs" })).toHaveValue("5");
  await expect(page.getByTestId("model-facts").getByRole("img", { name: /Quality: \d out of 5/ })).toBeVisible();
  await expect(page.getByTestId("plan")).toContainText("expected peak", { timeout: PLAN_MS });
  await picture(page, "2-training");
  await page.getByRole("textbox", { name: "Epochs" }).fill("2");
  await page.getByRole("button", { name: "Start Training" }).click();

  await expect(page).toHaveURL(/\/dashboard\?job=/);
  await expect(page.getByRole("progressbar", { name: "Training progress" })).toBeAttached();
  await expect(page.getByTestId("job")).toContainText(/[1-9]\d* of \d+/, { timeout: TRAINING_MS });
  await expect(page.getByText(/Training loss went from/)).toBeVisible();
  await expect(page).toHaveTitle(/% - .*cellar/);
  await picture(page, "3-running");

  const second = await (await browser.newContext()).newPage();
  await second.goto(page.url());
  await page.reload();
  for (const each of [page, second]) {
    await expect(each.getByText(/Training loss went from/)).toBeVisible();
    await expect(each.getByTestId("job")).toContainText(/[1-9]\d* of \d+/);
  }

  await expect(job(page, "succeeded")).toBeVisible({ timeout: TRAINING_MS });
  await expect(job(second, "succeeded")).toBeVisible();
  const sentence = await page.getByTestId("report").innerText();
  expect(await second.getByTestId("report").innerText()).toBe(sentence);
  const [before, after] = [...sentence.matchAll(/\b\d\.\d{3}\b/g)].map(([number]) => Number(number)).slice(-2);
  expect(after).toBeLessThan(before ?? 0);
  await second.context().close();
  await picture(page, "4-complete");

  await page.getByRole("button", { name: "Test the model" }).click();
  await page.getByText("Answer settings").click();
  await page.getByRole("textbox", { name: "Longest answer (tokens)" }).fill("16");
  await page.getByRole("textbox", { name: "Your question" }).fill("How often does a sensor measure?");
  await page.getByRole("button", { name: "Ask" }).click();
  const turn = page.getByTestId("turn");
  for (const name of ["Tuned model", "Original model"]) {
    const answer = turn.getByRole("article", { name });
    await expect(answer).toHaveAttribute("aria-busy", "false", { timeout: 120_000 });
    await expect(answer).toContainText(/tokens in/);
  }
  await picture(page, "5-chat");

  await page.getByRole("button", { name: "Close the test" }).click();
  await page.getByRole("link", { name: "All details" }).click();
  await expect(page.getByRole("heading", { name: "Start the same again" })).toBeVisible();
  await expect(page.getByText(/curl .*start-finetuning/).first()).toBeVisible();
  await picture(page, "6-details");

  await page.getByRole("link", { name: "Machine" }).first().click();
  await expect(page.getByTestId("record").getByRole("row", { name: /cellar/ })).toContainText(/planned|as planned/);
  await picture(page, "7-record");
});

test("a training can be cancelled, and the data set stays", async ({ page }) => {
  await page.goto("/training");
  await page.getByRole("textbox", { name: "Epochs" }).fill("50");
  await page.getByRole("button", { name: "Start Training" }).click();
  await page.getByRole("button", { name: "Cancel training" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel training" }).click();
  await expect(job(page, "cancelled")).toBeVisible({ timeout: 120_000 });
  await expect(page.getByText("This training was cancelled.")).toBeVisible();
  await page.goto("/upload");
  await expect(page.getByRole("link", { name: "cellar", exact: true })).toBeVisible();
});

test("the page speaks French to a French browser, remembers a choice, and so does the server", async ({ browser, studio }) => {
  const context = await browser.newContext({ locale: "fr-FR", viewport: { width: 400, height: 860 }, colorScheme: "dark", baseURL: studio });
  const page = await context.newPage();
  await page.goto("/training");
  await expect(page.getByRole("heading", { name: "Configurer l’entraînement" })).toBeVisible();
  await expect(page.getByTestId("plan")).toContainText("pic attendu", { timeout: PLAN_MS });
  await expect(page.getByTestId("model-facts")).toContainText(/réseau/);
  await picture(page, "8-french-narrow-dark");
  await page.getByRole("button", { name: "Menu" }).click();
  await page.getByRole("dialog").getByText("EN", { exact: true }).click();
  await expect(page.getByRole("heading", { name: "Configure training" })).toBeVisible();
  await page.reload();
  await expect(page.getByRole("heading", { name: "Configure training" })).toBeVisible();
  await context.close();
});
