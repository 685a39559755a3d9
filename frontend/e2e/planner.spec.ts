/** The planner on the page, with a real server: advanced mode, the map of models, other plans, added models, calibration. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { addDataset, expect, MODEL_ROOT, picture, PLAN_MS, test } from "./studio";

const TINY = {
  model_type: "llama",
  architectures: ["LlamaForCausalLM"],
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 300,
  max_position_embeddings: 256,
  tie_word_embeddings: true,
};

const peak = (page: Page) => page.getByTestId("plan").locator("strong").first();
const bar = (page: Page) => page.getByTestId("plan").getByRole("img", { name: /Expected peak/ });

async function openTraining(page: Page, studio: string): Promise<void> {
  await page.goto(`/training?dataset=${await addDataset(studio)}`);
  await expect(page.getByTestId("plan")).toHaveAttribute("aria-busy", "false", { timeout: PLAN_MS });
}

test("in advanced mode the plan, its memory bar and the origin follow a value, and one click goes back", async ({ page, studio }) => {
  await openTraining(page, studio);
  await page.getByRole("button", { name: /Advanced settings/ }).click();
  const row = page.getByTestId("option-lora_rank");
  await expect(row).toContainText("Automatic: 16, from the model");
  const before = await peak(page).innerText();
  const drawn = await bar(page).getAttribute("aria-label");

  await row.getByRole("textbox", { name: "LoRA rank" }).fill("512");
  await expect(row).toContainText("yours");
  await expect(peak(page)).not.toHaveText(before, { timeout: PLAN_MS });
  expect(await bar(page).getAttribute("aria-label")).not.toBe(drawn);
  await expect(page.getByText("1 value of your own")).toBeVisible();
  await picture(page, "9-advanced");

  await page.getByRole("button", { name: "LoRA rank: back to automatic" }).click();
  await expect(peak(page)).toHaveText(before, { timeout: PLAN_MS });
  await expect(row).toContainText("Automatic: 16, from the model");

  await page.getByRole("textbox", { name: "Warm-up share" }).fill("1.5");
  await expect(page.getByText("At most 1.", { exact: true })).toBeVisible();
  await expect(page.getByRole("button", { name: "Start Training" })).toBeDisabled();
  await page.getByRole("button", { name: "All back to automatic" }).click();
  await expect(page.getByRole("button", { name: "Start Training" })).toBeEnabled();
});

test("the map marks what is recommended; a click or an arrow key chooses", async ({ page, studio }) => {
  await openTraining(page, studio);
  const map = page.getByRole("radiogroup", { name: "Models by time and quality" });
  await expect(map.getByRole("radio", { name: /First choice/ })).toHaveCount(1);
  expect(await map.getByRole("radio", { name: /Recommended: best for its time/ }).count()).toBeGreaterThan(0);
  expect(await map.getByRole("radio", { name: /Another is as fast and as good/ }).count()).toBeGreaterThan(0);

  const distil = map.getByRole("radio", { name: /^DistilGPT-2/ });
  await distil.click();
  await expect(page).toHaveURL(/model=distilgpt2/);
  await expect(distil).toBeChecked();
  await expect(page.getByTestId("told")).toContainText("DistilGPT-2");
  await expect(page.getByTestId("model-facts")).toContainText("1.5 GB");
  await picture(page, "10-map");

  await distil.focus();
  await page.keyboard.press("ArrowRight");
  await expect(page).not.toHaveURL(/model=distilgpt2/);

  await page.getByTestId("model-map").getByText("Show as a table").click();
  await page.getByRole("button", { name: "Use GPT-2 Medium (355M)" }).click();
  await expect(page).toHaveURL(/model=gpt2-medium/);

  await page.getByRole("combobox", { name: "Model" }).or(page.getByRole("textbox", { name: "Model", exact: true })).first().click();
  const choice = page.getByRole("option", { name: /^DistilGPT-2/ });
  await expect(choice).toContainText("Recommended");
  await expect(choice).toContainText(/Fits|Tight|Does not fit/);
});

test("another plan is one click away, and says how sure this one is", async ({ page, studio }) => {
  await openTraining(page, studio);
  await expect(page.getByTestId("bound")).toContainText(/confidence, n = \d+|have been measured yet/);
  await page.getByText("Other plans and their price").click();
  await page.getByRole("button", { name: "Apply Gradient checkpointing: yes" }).click();
  await page.getByRole("button", { name: /Advanced settings/ }).click();
  await expect(page.getByRole("combobox", { name: "Gradient checkpointing" })).toHaveValue("true");
  await expect(page.getByTestId("option-gradient_checkpointing")).toContainText("yours");
});

test("a folder becomes a model of the catalogue, can be planned, survives a reload and can be removed", async ({ page, studio }) => {
  const folder = join(MODEL_ROOT, "tiny-llama");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "config.json"), JSON.stringify(TINY));

  await page.goto("/models");
  await page.getByRole("textbox", { name: "Add another model" }).fill(join(MODEL_ROOT, "nowhere"));
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByRole("alert")).toBeVisible();

  await page.getByRole("textbox", { name: "Add another model" }).fill(folder);
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await expect(page.getByText(/tiny-llama was added/)).toBeVisible({ timeout: PLAN_MS });
  await page.reload();
  const card = page.getByRole("listitem").filter({ hasText: "Added by you" });
  await expect(card).toContainText("tiny-llama");
  await picture(page, "11-added-model");

  await addDataset(studio);
  await card.getByRole("link").click();
  await expect(page).toHaveURL(/\/training\?model=/);
  await expect(page.getByTestId("plan")).toContainText("expected peak", { timeout: PLAN_MS });

  await page.goto("/models");
  await page.getByRole("button", { name: /^Remove / }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await expect(page.getByText("Added by you")).toHaveCount(0);
});

test("the machine is measured on request, and plans say so", async ({ page, studio }) => {
  await page.goto("/machine");
  await page.getByRole("button", { name: "Measure this machine" }).click();
  await expect(page.getByRole("button", { name: "Measure again" })).toBeVisible({ timeout: 300_000 });
  await expect(page.getByText(/GFLOP\/s/).first()).toBeVisible();
  await picture(page, "12-machine");
  await openTraining(page, studio);
  await expect(page.getByTestId("time")).toContainText("Measured on this machine.");
});
