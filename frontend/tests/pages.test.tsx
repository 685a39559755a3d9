import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test } from "vitest";
import { open, violations } from "./render";
import { dataset, job, jobDetail, model, plan, ranked, recommendation, serve, tokenReport, tokenRow } from "./server";

const models = [
  model(),
  model({ id: "big/7b", name: "Big 7B", fit: "does_not_fit", peak_bytes: 20 * 2 ** 30, is_default: false, preselected: false, weights: "unreachable" }),
];
const answers = {
  "GET /api/datasets": { datasets: [dataset] },
  "GET /api/datasets/ds-1": dataset,
  "GET /api/datasets/ds-1/rows": {
    rows: [{ row: 1, values: {}, messages: [{ role: "user", content: "When?" }, { role: "assistant", content: "Now." }], text: null, problems: [] }],
    total: 1,
    offset: 0,
  },
  "GET /api/datasets/ds-1/token-report": tokenReport,
  "GET /api/datasets/ds-1/tokens": tokenRow,
  "GET /api/models/available": { models },
  "GET /api/models/recommended": recommendation([
    ranked({ recommended: true }),
    ranked({ id: "big/7b", name: "Big 7B", rank: 2, quality: 60, seconds_p50: 9_000, peak_bytes: 20 * 2 ** 30, verdict: "does_not_fit" }),
    ranked({ id: "old/1b", name: "Old 1B", rank: 3, quality: 25, seconds_p50: 400, dominated: true, dominated_by: "gpt2" }),
  ]),
  "GET /api/plans/record": { jobs: [], summary: { count: 0, peak_mean_abs_pct: null, peak_worst_under_pct: null, seconds_mean_abs_pct: null } },
  "POST /api/plans": plan,
  "POST /api/start-finetuning": { job_id: "job-1", status: "queued", plan, warnings: [] },
  "GET /api/jobs": { jobs: [job()] },
  "GET /api/jobs/job-1": jobDetail(job()),
  "GET /api/jobs/job-1/metrics": { name: "loss", steps: [1, 2, 3], values: [3, 2, 1.5] },
};

describe("training page", () => {
  test("preselects the server's choice, shows its stars in words, and starts with five epochs", async () => {
    const asked = serve(answers);
    open("/training?dataset=ds-1");
    expect(await screen.findByRole("img", { name: "Quality: 2 out of 5" })).toBeDefined();
    expect(screen.getByRole("img", { name: "Speed: 5 out of 5" })).toBeDefined();
    expect(screen.getByLabelText<HTMLInputElement>("Epochs").value).toBe("5");
    await screen.findByText("Fits into memory");
    await userEvent.click(screen.getByRole("button", { name: "Start Training" }));
    await screen.findByRole("heading", { name: "Dashboard" });
    const start = asked.find(({ path }) => path === "/api/start-finetuning");
    expect(start?.body).toEqual({ dataset_id: "ds-1", model_name: "gpt2", num_epochs: 5 });
  });

  test("asks for one plan, and for one more after a change", async () => {
    const asked = serve(answers);
    const plans = (): number => asked.filter(({ path }) => path === "/api/plans").length;
    open("/training?dataset=ds-1");
    await screen.findByText("Fits into memory");
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(plans()).toBe(1);
    await userEvent.clear(screen.getByLabelText("Epochs"));
    await userEvent.type(screen.getByLabelText("Epochs"), "3");
    await waitFor(() => expect(asked.at(-1)?.body).toMatchObject({ num_epochs: 3 }));
  });

  test("names a number that is out of the contract's range, and does not start", async () => {
    serve(answers);
    open("/training?dataset=ds-1");
    const epochs = await screen.findByLabelText("Epochs");
    await userEvent.clear(epochs);
    await userEvent.type(epochs, "0");
    expect(await screen.findByText("At least 1.")).toBeDefined();
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Start Training" }).disabled).toBe(true);
  });

  test("warns when a model is too big, and can be started all the same", async () => {
    serve(answers);
    open("/training?dataset=ds-1&model=big%2F7b");
    expect(await screen.findByText(/expected to need 20.0.GB; this machine has 8.0.GB/)).toBeDefined();
    await waitFor(() => expect(screen.getByRole<HTMLButtonElement>("button", { name: "Start Training" }).disabled).toBe(false));
  });
});

describe("dashboard", () => {
  test("shows a running job from its history alone, in the page and in the title", async () => {
    serve(answers);
    open("/dashboard");
    expect(await screen.findByText("62 of 100")).toBeDefined();
    expect(screen.getByRole("progressbar", { name: "Training progress" }).getAttribute("aria-valuenow")).toBe("62");
    expect(await screen.findByText(/Training loss went from 3.000 to 1.500 over 3 steps/)).toBeDefined();
    expect(document.title).toMatch(/^62% - GPT-2 on helpdesk/);
  });

  test("says why a job failed and what to do", async () => {
    const failed = job({ status: "failed", error: { code: "oom_host", message: "Memory ran out.", hint: "Choose a smaller model.", evidence: "" } });
    serve({ ...answers, "GET /api/jobs": { jobs: [failed] }, "GET /api/jobs/job-1": jobDetail(failed) });
    open("/dashboard?job=job-1");
    const alert = await screen.findByRole("alert");
    expect(within(alert).getByText(/Memory ran out/)).toBeDefined();
    expect(within(alert).getByText("Choose a smaller model.")).toBeDefined();
  });
});

test("a data set shows each problem with its row and column", async () => {
  serve(answers);
  open("/upload?dataset=ds-1");
  expect(await screen.findByText("Row 17, column “answer”")).toBeDefined();
  expect(screen.getByText("199 of 200")).toBeDefined();
  expect(await screen.findByText("Now.")).toBeDefined();
});

test("rows are shown as the tokens that a model sees, as text, and a failed check leads to its rows", async () => {
  const asked = serve({ ...answers, "GET /api/datasets/ds-1": { ...dataset, rows_in_file: 200 } });
  open("/datasets/ds-1");
  expect(await screen.findByText("<b>Now</b>")).toBeDefined();
  expect(screen.getByText("4 tokens, 2 learned.", { exact: false })).toBeDefined();
  expect(screen.getByText("4.5% of the rows, 1% of the tokens lost")).toBeDefined();
  expect(screen.getByText("Stops the start.")).toBeDefined();
  await userEvent.click(screen.getByRole("button", { name: "9" }));
  await waitFor(() => expect(asked.at(-1)?.path).toContain("row=9"));
});

test("French is chosen in the page, asked of the server, and remembered", async () => {
  const asked = serve(answers);
  const { unmount } = open("/models");
  await screen.findByRole("heading", { name: "Models" });
  await userEvent.click(screen.getAllByLabelText(/Français/)[0] as HTMLElement);
  expect(await screen.findByRole("heading", { name: "Modèles" })).toBeDefined();
  await waitFor(() => expect(asked.at(-1)?.language).toBe("fr"));
  unmount();
  open("/models");
  expect(await screen.findByRole("heading", { name: "Modèles" })).toBeDefined();
});

test.each(["/upload?dataset=ds-1", "/training?dataset=ds-1", "/dashboard", "/jobs/job-1", "/models", "/machine", "/playground", "/nowhere"])(
  "axe finds nothing wrong at %s",
  async (address) => {
    serve(answers);
    open(address);
    await screen.findByRole("heading", { level: 1 });
    await waitFor(() => expect(document.querySelector(".mantine-Skeleton-root")).toBeNull());
    expect(await violations()).toEqual([]);
  },
);
