/** Data on the page with a real server: mend what is wrong with them, say what their columns are, break an import off. */
import { mkdtempSync, openSync, closeSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { expect, picture, test } from "./studio";

const folder = mkdtempSync(join(tmpdir(), "affinage-data-"));
/** The second look is a process of its own; the machine may be busy. */
const LOOK_MS = 120_000;
const PAIRS = Array.from({ length: 60 }, (_none, number) => `"What is stored on shelf ${number}?","On shelf ${number} there are ${number + 7} jars of honey."`);

function write(name: string, header: string, rows: string[]): string {
  const path = join(folder, name);
  writeFileSync(path, `${[header, ...rows].join("\n")}\n`);
  return path;
}

async function bring(page: Page, path: string): Promise<void> {
  await page.goto("/upload");
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Choose a file" }).click();
  await (await chooser).setFiles(path);
}

const looked = (page: Page) => page.locator("[data-testid=findings][data-state=done]");

test("what is wrong with a file is found, seen and mended on the page, and the file itself stays", async ({ page }) => {
  const wrong = [PAIRS[4] ?? "", '"Whom do I ask?","Ask anna@example.org for the key."', '"Who opens the door?",""'];
  await bring(page, write("shelves.csv", "question,answer", [...PAIRS, ...wrong]));
  await page.getByRole("button", { name: "Row 63, column “answer”" }).click();
  await expect(page.locator("[data-wanted]")).toContainText("The answer is empty.");
  await expect(page.locator("[data-wanted]")).toBeInViewport();
  await page.getByRole("button", { name: "Edit: Row 63" }).click();
  await page.getByTestId("row-editor").getByLabel("answer").fill("The keeper of the house.");
  await page.getByRole("button", { name: "Save as a new version" }).click();
  await expect(page.getByText("No problems found.")).toBeVisible();
  await expect(page.locator("[data-wanted]")).toContainText("The keeper of the house.");

  await expect(looked(page)).toBeVisible({ timeout: LOOK_MS });
  await expect(page.getByTestId("findings")).toContainText("Rows that repeat an earlier row exactly: 1.");
  await page.getByRole("button", { name: /^Mask: Rows with e-mail/ }).click();
  await expect(page.getByTestId("versions")).toContainText("rows whose e-mail addresses are masked: 1");
  await picture(page, "data-mended");

  await page.getByLabel("Rows as JSON Lines").selectOption("question_answer");
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download", exact: true }).click();
  const lines = readFileSync(await (await download).path(), "utf8").trim().split("\n").map((line) => JSON.parse(line) as { answer: string });
  expect(lines).toHaveLength(PAIRS.length + 3);
  expect(lines.at(-2)?.answer).toBe("Ask [email] for the key.");
  await page.getByRole("link", { name: "Version 1" }).click();
  await expect(page.getByText("62 of 63")).toBeVisible();
});

test("columns whose names say nothing are proposed with a live preview, and corrected before anything starts", async ({ page }) => {
  await bring(page, write("columns.csv", "un,deux", PAIRS));
  const preview = page.getByTestId("mapping-preview");
  await expect(preview).toContainText("50 of the first 50 can be used");
  await page.getByLabel("Question or instruction").selectOption("deux");
  await page.getByLabel("Answer").selectOption("un");
  await expect(preview.locator("[data-role=user]").first()).toContainText("On shelf 0 there are 7 jars of honey.");
  await picture(page, "data-mapping");
  await page.getByRole("button", { name: "Apply" }).click();
  await expect(preview).toHaveCount(0);
  await expect(page.locator("[data-role=assistant]").first()).toContainText("What is stored on shelf 0?");
});

test("an import is broken off, and nothing of it stays", async ({ page, studio }) => {
  const path = join(folder, "long.jsonl");
  const file = openSync(path, "w");
  const rows = `${JSON.stringify({ question: "What is in the cellar?", answer: "A barrel of wine. ".repeat(30) })}\n`.repeat(2_000);
  for (let piece = 0; piece < 100; piece += 1) writeSync(file, rows);
  closeSync(file);
  const names = async (): Promise<string[]> =>
    ((await (await fetch(`${studio}/api/datasets`)).json()) as { datasets: { name: string }[] }).datasets.map(({ name }) => name);
  await bring(page, path);
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await expect(page.getByRole("button", { name: "Choose a file" })).toBeVisible();
  await expect(page.getByRole("alert")).toHaveCount(0);
  expect(await names()).not.toContain("long");
});
