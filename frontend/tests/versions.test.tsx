import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import type { Analysis, Dataset, DatasetRow } from "@/types/api";
import { open, violations } from "./render";
import { dataset, serve } from "./server";

const ROWS = 200;
const version: Dataset = {
  ...dataset,
  dataset_id: "ds-2",
  content_hash: "01",
  version: 2,
  parent: "ds-1",
  origin: "ds-1",
  changes: [{ code: "exact_duplicates", rows: 1, message: "repeated rows left out: 1" }],
};
const analysis: Analysis = {
  state: "done",
  done_bytes: 0,
  total_bytes: 0,
  rows: 199,
  seconds: 0.1,
  languages: { en: 199 },
  findings: [
    {
      code: "exact_duplicates",
      count: 1,
      remedy: "drop",
      message: "Rows that repeat an earlier row exactly: 1.",
      hint: "The fix keeps the first of each.",
      rows: [{ row: 18, other: 4, text: "<b>bold</b>" }],
    },
  ],
};
const row = (number: number): DatasetRow => ({
  row: number,
  values: { question: `Question ${number}`, answer: `Answer ${number}` },
  messages: [
    { role: "user", content: `Question ${number}` },
    { role: "assistant", content: `Answer ${number}` },
  ],
  text: null,
  problems: [],
});
/** The rows that the address asks for. */
const page = (_body: unknown, path: string): unknown => {
  const search = new URL(path, "http://page").searchParams;
  const [offset, limit] = [Number(search.get("offset")), Number(search.get("limit"))];
  return { rows: Array.from({ length: Math.min(limit, ROWS - offset) }, (_none, index) => row(offset + index + 1)), total: ROWS, offset };
};
const answers = {
  "GET /api/datasets": { datasets: [dataset, version] },
  "GET /api/datasets/ds-1": dataset,
  "GET /api/datasets/ds-2": version,
  "GET /api/datasets/ds-1/rows": page,
  "GET /api/datasets/ds-2/rows": page,
  "GET /api/datasets/ds-1/analysis": analysis,
  "GET /api/datasets/ds-2/analysis": { ...analysis, findings: [] },
  "GET /api/datasets/ds-1/versions": { datasets: [dataset, version] },
  "GET /api/datasets/ds-2/versions": { datasets: [dataset, version] },
  "POST /api/datasets/ds-1/fixes": version,
  "POST /api/datasets/ds-1/edits": version,
  "GET /api/models/available": { models: [] },
};

test("a problem and a finding lead to their rows, wherever in the file these are", async () => {
  serve(answers);
  open("/datasets/ds-1");
  expect(await screen.findByText("Question 1")).toBeDefined();
  await userEvent.click(screen.getByRole("button", { name: "Row 17, column “answer”" }));
  await waitFor(() => expect(document.activeElement?.textContent).toContain("Answer 17"));
  await userEvent.click(await screen.findByRole("button", { name: "see row 4" }));
  await waitFor(() => expect(document.activeElement?.textContent).toContain("Answer 4"));
  expect(screen.getByText("<b>bold</b>")).toBeDefined();
  expect(screen.getByText("Languages of the rows: English 199.")).toBeDefined();
  expect(await violations()).toEqual([]);
});

test("one click mends a finding, and the page goes on with the new version", async () => {
  const asked = serve(answers);
  const { router } = open("/datasets/ds-1");
  await userEvent.click(await screen.findByRole("button", { name: /^Leave out: Rows that repeat/ }));
  await waitFor(() => expect(router.state.location.pathname).toBe("/datasets/ds-2"));
  expect(asked.find(({ method }) => method === "POST")?.body).toEqual({ findings: ["exact_duplicates"] });
  expect(await screen.findByText("Nothing to remark.")).toBeDefined();
  const versions = within(screen.getByTestId("versions"));
  expect(versions.getByText("repeated rows left out: 1")).toBeDefined();
  expect(versions.getByRole("link", { name: "Version 1" }).getAttribute("href")).toBe("/datasets/ds-1");
});

test("a row is changed column by column, and only what was changed is sent", async () => {
  const asked = serve(answers);
  const { router } = open("/datasets/ds-1?row=17");
  await userEvent.click(await screen.findByRole("button", { name: "Edit: Row 17" }));
  const editor = within(screen.getByTestId("row-editor"));
  const save = editor.getByRole<HTMLButtonElement>("button", { name: "Save as a new version" });
  expect(save.disabled).toBe(true);
  await userEvent.clear(editor.getByLabelText("answer"));
  await userEvent.type(editor.getByLabelText("answer"), "Better");
  await userEvent.click(save);
  await waitFor(() => expect(router.state.location.pathname).toBe("/datasets/ds-2"));
  expect(asked.find(({ method }) => method === "POST")?.body).toEqual({ edited: [{ row: 17, values: { answer: "Better" } }], added: [] });
  expect(router.state.location.search).toEqual({ row: 17 });
});

test("a row is added, and the page shows it where it stands: at the end", async () => {
  const asked = serve(answers);
  const { router } = open("/upload?dataset=ds-1");
  await userEvent.click(await screen.findByRole("button", { name: "Add a row" }));
  const editor = within(screen.getByTestId("row-editor"));
  await userEvent.type(editor.getByLabelText("question"), "New?");
  await userEvent.type(editor.getByLabelText("answer"), "Yes.");
  await userEvent.click(editor.getByRole("button", { name: "Save as a new version" }));
  await waitFor(() => expect(router.state.location.search).toEqual({ dataset: "ds-2", row: ROWS }));
  expect(asked.find(({ method }) => method === "POST")?.body).toEqual({ edited: [], added: [{ question: "New?", answer: "Yes." }] });
  await waitFor(() => expect(document.activeElement?.textContent).toContain(`Answer ${ROWS}`));
});

test("a shape that would lose something is refused in the server's words", async () => {
  const refusal = { error: { code: "invalid", message: "Row 3 does not fit.", hint: "These shapes hold every row: messages.", details: [] } };
  serve({ ...answers, "GET /api/datasets/ds-1/export": Response.json(refusal, { status: 422 }) });
  open("/datasets/ds-1");
  await userEvent.selectOptions(await screen.findByLabelText("Rows as JSON Lines"), "alpaca");
  await userEvent.click(screen.getByRole("button", { name: "Download" }));
  expect(await screen.findByText("Row 3 does not fit.")).toBeDefined();
});

test("another mapping is shown with its rows before it is applied, and a proposal waits for a yes", async () => {
  const unsure: Dataset = { ...dataset, confirmed: false };
  const swapped = { shape: "question_answer", instruction: "answer", input: null, output: "question", system: null, history: null, split: null, verdict: null };
  const preview = (body: unknown): unknown => ({
    rows: [{ ...row(1), messages: [{ role: "user", content: JSON.stringify(body) }] }, { ...row(2), messages: null, problems: dataset.problems }],
    total: ROWS,
    offset: 0,
  });
  const asked = serve({
    ...answers,
    "GET /api/datasets/ds-1": unsure,
    "POST /api/datasets/ds-1/mapping/preview": preview,
    "PUT /api/datasets/ds-1/mapping": { ...unsure, confirmed: true },
  });
  open("/datasets/ds-1");
  expect(await screen.findByRole("button", { name: "Confirm this reading" })).toBeDefined();
  await userEvent.selectOptions(screen.getByLabelText("Question or instruction"), "answer");
  await userEvent.selectOptions(screen.getByLabelText("Answer"), "question");
  const shown = within(await screen.findByTestId("mapping-preview"));
  expect(await shown.findByText(JSON.stringify(swapped))).toBeDefined();
  expect(shown.getByText("1 of the first 2 can be used")).toBeDefined();
  expect(await violations()).toEqual([]);
  expect(asked.some(({ method }) => method === "PUT")).toBe(false);
  await userEvent.click(screen.getByRole("button", { name: "Apply" }));
  await waitFor(() => expect(asked.find(({ method }) => method === "PUT")?.body).toEqual(swapped));
});
