/** What the page does with the planner's answers: advanced mode, the map of models, alternatives, added models, the record. */
import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test } from "vitest";
import { open, violations } from "./render";
import { dataset, model, plan, ranked, recommendation, serve } from "./server";

interface Asking {
  batch_size?: number;
  dtype?: string;
  gradient_checkpointing?: boolean;
  target_modules?: string[];
}

/** Resolves like the server: a value that was sent is the user's, and its automatic value stays known. */
const resolve = (body: unknown) => {
  const asked = body as Asking;
  const resolved = structuredClone(plan.resolved);
  for (const name of ["batch_size", "dtype", "gradient_checkpointing", "target_modules"] as const) {
    const entry = resolved[name];
    if (asked[name] !== undefined && entry) resolved[name] = { ...entry, value: asked[name], origin: "user", reason: null };
  }
  return { ...plan, peak_bytes: ((asked.batch_size ?? 8) / 8) * 2 ** 30, resolved };
};

const answers = {
  "GET /api/datasets": { datasets: [dataset] },
  "GET /api/models/available": {
    models: [model(), model({ id: "old/1b", name: "Old 1B", preselected: false, added: true })],
  },
  "GET /api/models/recommended": recommendation([
    ranked({ recommended: true }),
    ranked({ id: "old/1b", name: "Old 1B", rank: 2, quality: 25, seconds_p50: 400, dominated: true, dominated_by: "gpt2" }),
  ]),
  "POST /api/plans": resolve,
};

const planned = (): Promise<HTMLElement> => screen.findByTestId("plan");

async function openAdvanced(): Promise<void> {
  open("/training?dataset=ds-1");
  await planned();
  await userEvent.click(screen.getByRole("button", { name: /Advanced settings/ }));
}

describe("advanced mode", () => {
  test("a value of one's own moves the plan and its origin, and one click goes back to automatic", async () => {
    const asked = serve(answers);
    await openAdvanced();
    const origin = screen.getByTestId("origin-batch_size");
    expect(origin.textContent).toBe("Automatic: 8, from the model");
    await userEvent.type(screen.getByRole("textbox", { name: "Batch size" }), "16");
    await waitFor(() => expect(within(screen.getByTestId("plan")).getByText(/^2\.0.GB$/)).toBeDefined());
    expect(asked.findLast(({ path }) => path === "/api/plans")?.body).toMatchObject({ batch_size: 16 });
    expect(origin.textContent).toContain("yours");
    await userEvent.click(screen.getByRole("button", { name: "Batch size: back to automatic" }));
    // The plan of before may be fresh enough to be shown again without another question.
    await waitFor(() => expect(origin.textContent).toBe("Automatic: 8, from the model"));
    expect(screen.getByRole<HTMLInputElement>("textbox", { name: "Batch size" }).value).toBe("");
  });

  test("choices, switches and lists are sent as the contract wants them, and all go back at once", async () => {
    const asked = serve(answers);
    await openAdvanced();
    await userEvent.selectOptions(screen.getByRole("combobox", { name: "Precision" }), "float32");
    await userEvent.selectOptions(screen.getByRole("combobox", { name: "Gradient checkpointing" }), "yes");
    await userEvent.type(screen.getByRole("textbox", { name: "Adapted layers" }), "c_attn, c_fc");
    await waitFor(() =>
      expect(asked.findLast(({ path }) => path === "/api/plans")?.body).toMatchObject({
        dtype: "float32",
        gradient_checkpointing: true,
        target_modules: ["c_attn", "c_fc"],
      }),
    );
    expect(screen.getByText("3 values of your own")).toBeDefined();
    await userEvent.click(screen.getByRole("button", { name: "All back to automatic" }));
    await waitFor(() => expect(screen.queryByText("3 values of your own")).toBeNull());
    for (const name of ["dtype", "gradient_checkpointing", "target_modules"])
      await waitFor(() => expect(screen.getByTestId(`origin-${name}`).textContent).toMatch(/^Automatic/));
  });

  test("what the server refuses stands at its field", async () => {
    const content = {
      code: "invalid",
      message: "target_modules: no such layer.",
      hint: "",
      details: [{ field: "target_modules", message: "“nothing” is not a layer of this model." }],
    };
    const refusal = Response.json({ error: content }, { status: 422 });
    serve({ ...answers, "POST /api/plans": refusal });
    open("/training?dataset=ds-1");
    await userEvent.click(await screen.findByRole("button", { name: /Advanced settings/ }));
    const field = screen.getByTestId("option-target_modules");
    expect(await within(field).findByText("“nothing” is not a layer of this model.")).toBeDefined();
  });
});

describe("plan", () => {
  test("a value that is not allowed is told beside the numbers, which are those before it", async () => {
    serve(answers);
    await openAdvanced();
    expect(screen.queryByText(/numbers before the value/)).toBeNull();
    await userEvent.type(screen.getByRole("textbox", { name: "LoRA rank" }), "0");
    expect(await screen.findByText(/numbers before the value/)).toBeDefined();
    await userEvent.click(screen.getByRole("button", { name: "LoRA rank: back to automatic" }));
    await waitFor(() => expect(screen.queryByText(/numbers before the value/)).toBeNull());
  });

  test("says how sure it is and what is cut", async () => {
    serve(answers);
    open("/training?dataset=ds-1");
    await planned();
    expect(screen.getByTestId("bound").textContent).toMatch(/Fits with 95% confidence, n = 43 measured runs. 2 of them are from this machine/);
    expect(screen.getByText(/^<.0\.1% of all tokens cut$/)).toBeDefined();
  });

  test("one click takes over another plan, with all its values", async () => {
    const asked = serve(answers);
    open("/training?dataset=ds-1");
    await planned();
    await userEvent.click(screen.getByText("Other plans and their price"));
    const line = within(screen.getByTestId("alternatives"));
    expect(line.getByText(/^768.MB$/)).toBeDefined();
    await userEvent.click(line.getByRole("button", { name: "Apply Batch size: 4, Gradient accumulation: 2" }));
    await waitFor(() =>
      expect(asked.findLast(({ path }) => path === "/api/plans")?.body).toMatchObject({ batch_size: 4, gradient_accumulation_steps: 2 }),
    );
  });
});

describe("map of models", () => {
  test("tells each point in words, and choosing one plans that model", async () => {
    const asked = serve(answers);
    open("/training?dataset=ds-1");
    const map = within(await screen.findByRole("radiogroup", { name: "Models by time and quality" }));
    expect(map.getByRole<HTMLInputElement>("radio", { name: /GPT-2 \(124M\): about 2.min, quality 30.0, 1.0.GB. First choice/ }).checked).toBe(true);
    await userEvent.click(map.getByRole("radio", { name: /Old 1B: .*Another is as fast and as good/ }));
    await waitFor(() => expect(asked.findLast(({ path }) => path === "/api/plans")?.body).toMatchObject({ model_name: "old/1b" }));
    expect(map.getByRole<HTMLInputElement>("radio", { name: /Old 1B/ }).checked).toBe(true);
  });

  test("asks again when the aim changes", async () => {
    const asked = serve(answers);
    open("/training?dataset=ds-1");
    await screen.findByTestId("model-map");
    await userEvent.click(screen.getByRole("radio", { name: "Quality" }));
    await waitFor(() => expect(asked.some(({ path }) => path === "/api/models/recommended?dataset_id=ds-1&objective=quality")).toBe(true));
    await waitFor(() => expect(asked.findLast(({ path }) => path === "/api/plans")?.body).toMatchObject({ objective: "quality" }));
  });
});

describe("models", () => {
  test("adds a model by its folder and says what it takes", async () => {
    const asked = serve({ ...answers, "POST /api/models": model({ id: "/home/me/model", name: "My model", added: true }) });
    open("/models");
    await userEvent.type(await screen.findByRole("textbox", { name: "Add another model" }), "/home/me/model");
    await userEvent.click(screen.getByRole("button", { name: "Add" }));
    expect(await screen.findByText("My model was added")).toBeDefined();
    expect(asked.find(({ method, path }) => method === "POST" && path === "/api/models")?.body).toEqual({ model: "/home/me/model" });
  });

  test("removes only what was added, after a question", async () => {
    const asked = serve({ ...answers, "DELETE /api/models/old/1b": {} });
    open("/models");
    await screen.findByRole("heading", { name: "Old 1B" });
    expect(screen.queryByRole("button", { name: "Remove GPT-2 (124M)" })).toBeNull();
    await userEvent.click(screen.getByRole("button", { name: "Remove Old 1B" }));
    await userEvent.click(within(await screen.findByRole("dialog")).getByRole("button", { name: "Remove" }));
    await waitFor(() => expect(asked.some(({ method, path }) => method === "DELETE" && path === "/api/models/old/1b")).toBe(true));
  });
});

test("the machine's page measures on request and shows how right the planner was", async () => {
  const job = {
    job_id: "job-1",
    name: "GPT-2 on helpdesk",
    model_id: "gpt2",
    device_id: "cpu",
    finished_at: "2026-11-22T10:00:00Z",
    planned_peak_bytes: 2 ** 30,
    measured_peak_bytes: 1.25 * 2 ** 30,
    planned_seconds: 100,
    measured_seconds: 90,
  };
  const summary = { count: 1, peak_mean_abs_pct: 20, peak_worst_under_pct: 20, seconds_mean_abs_pct: 11.1 };
  const asked = serve({ ...answers, "GET /api/plans/record": { jobs: [job], summary }, "POST /api/hardware/calibrate": {} });
  open("/machine");
  const row = within(await screen.findByRole("row", { name: /GPT-2 on helpdesk/ }));
  expect(row.getByText("planned 20% too low")).toBeDefined();
  expect(row.getByText("planned 11% too high")).toBeDefined();
  await userEvent.click(screen.getByRole("button", { name: "Measure this machine" }));
  await waitFor(() => expect(asked.some(({ path }) => path === "/api/hardware/calibrate")).toBe(true));
  expect(await violations()).toEqual([]);
});

test("a machine that stayed restless while it was measured says so", async () => {
  const calibration = {
    device_id: "cpu", device_name: "A processor", measured_at: "2026-11-22T10:00:00Z", seconds: 40, half_gflops: null,
    full_gflops: 90, bandwidth_gb: 9, step_factor: null, noise: 1.6, unrest: 1.5, others_share: 0.4, restless: true,
    notice: { code: "restless", message: "Other programs used 40 % of the processor.", hint: "Measure again." },
  };
  const machine = { devices: [], memory_total_bytes: 0, memory_available_bytes: 0, disk_free_bytes: 0, cpu_name: "", calibration };
  serve({ ...answers, "GET /api/plans/record": { jobs: [], summary: { count: 0 } }, "GET /api/hardware": machine });
  open("/machine");
  expect(await screen.findByText("Other programs used 40 % of the processor.")).toBeDefined();
});
