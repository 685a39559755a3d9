/** A small stand-in for the server, typed with its contract; the real one is used in e2e. */
import { vi } from "vitest";
import type { Dataset, Hardware, Health, Job, JobDetail, Model, Plan, Recommendation, RecommendedModel, TokenReport, TokenRow } from "@/types/api";

export const model = (over: Partial<Model> = {}): Model => ({
  id: "gpt2",
  name: "GPT-2 (124M)",
  vram_required_gb: 2,
  quality_rating: 2,
  speed_rating: 5,
  batch_size: 8,
  max_length: 512,
  learning_rate: 0.0003,
  description: "Default model, a good compromise.",
  lora_rank: 16,
  lora_alpha: 32,
  gradient_accumulation_steps: 1,
  target_modules: ["c_attn"],
  is_default: true,
  preselected: true,
  preselected_reason: "Its weights are ready.",
  params: 124_439_808,
  licence: "mit",
  gated: false,
  quantization: "none",
  context_length: 1024,
  weights: "ready",
  download_bytes: null,
  fit: "fits",
  peak_bytes: 2 ** 30,
  added: false,
  ...over,
});

export const tokenReport: TokenReport = {
  model: "gpt2",
  rows: 199,
  rows_counted: 199,
  median_length: 40,
  longest: 700,
  tokens: 9_000,
  trained_share: 0.4,
  max_length: 512,
  long_rows: "truncate",
  long_rows_reason: null,
  histogram: [
    { first: 1, last: 400, rows: 190 },
    { first: 401, last: 800, rows: 9 },
  ],
  cut_rows_share: 0.045,
  cut_tokens_share: 0.01,
  checks: [
    { check: "start_once", status: "passed", share: 1, message: "No row begins with two start tokens.", hint: "", rows: [] },
    { check: "end_of_turn", status: "failed", share: 0.95, message: "The model would not learn to stop.", hint: "Raise max_length.", rows: [7, 9] },
  ],
  startable: false,
};

export const tokenRow: TokenRow = {
  row: 1,
  template: "plain",
  full_length: 4,
  fallback: "none",
  tokens: [
    { id: 11, text: "When", trained: false, special: false },
    { id: 12, text: "?\n", trained: false, special: false },
    { id: 13, text: "<b>Now</b>", trained: true, special: false },
    { id: 2, text: "<|endoftext|>", trained: true, special: true },
  ],
};

export const dataset: Dataset = {
  dataset_id: "ds-1",
  name: "helpdesk",
  created_at: "2026-11-22T10:00:00.000Z",
  format: "csv",
  encoding: "utf-8",
  delimiter: ",",
  shape: "question_answer",
  columns: ["question", "answer"],
  confidence: 0.95,
  confirmed: true,
  container: null,
  remarks: [],
  mapping: { shape: "question_answer", instruction: "question", output: "answer" },
  rows: 199,
  rows_in_file: 200,
  distinct_rows: 199,
  skipped_rows: 1,
  problems: [{ row: 17, column: "answer", code: "empty", message: "The answer is empty.", hint: "Fill it in or delete the row." }],
  problem_count: 1,
  splits: { train: 179, heldout: 20 },
  notices: [],
  content_hash: "00",
  source_bytes: 27_000,
  version: 1,
  parent: null,
  origin: null,
  changes: [],
};

export const plan: Plan = {
  model_id: "gpt2",
  device_id: "cpu",
  device_name: "A processor",
  fits: true,
  verdict: "fits",
  peak_bytes: 2 ** 30,
  peak_bytes_upper: 1.2 * 2 ** 30,
  available_bytes: 8 * 2 ** 30,
  parts: { weights: 2 ** 29, adapter: 2 ** 24, gradients: 2 ** 24, optimizer: 2 ** 25, activations: 2 ** 27, logits: 2 ** 26, workspace: 0, context: 2 ** 28 },
  seconds_p50: 100,
  seconds_p90: 200,
  comparison_seconds: 60,
  steps: 115,
  train_rows: 179,
  heldout_rows: 20,
  effective_batch_size: 8,
  resolved: {
    learning_rate: { value: 0.0003, origin: "model", reason: null, automatic: 0.0003 },
    batch_size: { value: 8, origin: "model", reason: null, automatic: 8 },
    dtype: { value: "bfloat16", origin: "planner", reason: "Native here.", automatic: "bfloat16" },
    gradient_checkpointing: { value: false, origin: "planner", reason: null, automatic: false },
    target_modules: { value: ["c_attn", "c_proj"], origin: "model", reason: null, automatic: ["c_attn", "c_proj"] },
  },
  reasons: [],
  warnings: [],
  objective: "balanced",
  memory_method: "traced",
  time_method: "table",
  bound: { confidence: 0.95, samples: 43, factor: 1.2, own_samples: 2 },
  cut_rows_share: 0.08,
  cut_tokens_share: 0.0004,
  reserved_bytes: null,
  reserved_method: null,
  alternatives: [
    {
      kind: "runner_up",
      changes: { batch_size: 4, gradient_accumulation_steps: 2 },
      peak_bytes: 0.75 * 2 ** 30,
      peak_bytes_upper: 0.9 * 2 ** 30,
      seconds_p50: 160,
      seconds_p90: 320,
      verdict: "fits",
      message: "Two halves make the same step.",
    },
  ],
};

export const ranked = (over: Partial<RecommendedModel>): RecommendedModel => ({
  id: "gpt2",
  name: "GPT-2 (124M)",
  rank: 1,
  recommended: false,
  dominated: false,
  dominated_by: null,
  quality: 30,
  quality_source: "A published table",
  quality_rating: 2,
  speed_rating: 5,
  params: 124_439_808,
  weights: "ready",
  vram_required_gb: 2,
  seconds_p50: 100,
  seconds_p90: 200,
  peak_bytes: 2 ** 30,
  peak_bytes_upper: 1.2 * 2 ** 30,
  verdict: "fits",
  plan: { batch_size: 8, gradient_accumulation_steps: 1, max_length: 96, gradient_checkpointing: false, dtype: "bfloat16", quantization: "none" },
  reason: "Quick and good enough.",
  ...over,
});

export const recommendation = (models: RecommendedModel[]): Recommendation => ({
  objective: "balanced",
  device_name: "A processor",
  memory_bytes: 8 * 2 ** 30,
  dataset_id: "ds-1",
  train_rows: 179,
  models,
});

export const job = (over: Partial<Job> = {}): Job => ({
  job_id: "job-1",
  name: "GPT-2 on helpdesk",
  status: "running",
  model_id: "gpt2",
  model_name: "GPT-2 (124M)",
  dataset_id: "ds-1",
  dataset_name: "helpdesk",
  created_at: "2026-11-22T10:00:00.000Z",
  started_at: "2026-11-22T10:00:01.000Z",
  finished_at: null,
  priority: 0,
  progress: {
    phase: "training",
    step: 62,
    total_steps: 100,
    fraction: 0.62,
    epoch: 3.1,
    loss: 1.5,
    heldout_loss: 2,
    heldout_loss_before: 3.5,
    learning_rate: 0.0002,
    tokens: 12_000,
    tokens_per_second: 300,
    peak_bytes: 2 ** 30,
    eta_seconds: 38,
    download_done_bytes: null,
    download_total_bytes: null,
  },
  error: null,
  last_seq: 70,
  can_chat: false,
  ...over,
});

/** What GET /api/jobs/{id} answers for a job. */
export const jobDetail = (shown: Job, over: Partial<JobDetail> = {}): JobDetail => ({
  ...shown,
  plan,
  commands: {},
  request: { dataset_id: shown.dataset_id, model_name: shown.model_id },
  notices: [],
  adapter_path: null,
  worked_seconds: 0,
  working_since: null,
  ...over,
});

const hardware: Hardware = {
  devices: [{ id: "cpu", kind: "cpu", name: "A processor", memory_total_bytes: 8 * 2 ** 30, memory_free_bytes: 6 * 2 ** 30, bf16: false }],
  memory_total_bytes: 8 * 2 ** 30,
  memory_available_bytes: 6 * 2 ** 30,
  disk_free_bytes: 2 ** 40,
  cpu_name: "A processor",
  calibration: null,
};
const health: Health = { status: "ok", version: "0.1.0", python: "3.11", sqlite: "3.53", engine: null, language: "en" };

export interface Asked {
  method: string;
  path: string;
  body: unknown;
  language: string | null;
}

/** Answers from `answers` ("GET /api/jobs" -> body, or a function of the request's body and path); everything else is the house's 404. Returns what was asked. */
export function serve(answers: Record<string, unknown>): Asked[] {
  const asked: Asked[] = [];
  const all: Record<string, unknown> = { "GET /api/health": health, "GET /api/hardware": hardware, ...answers };
  vi.stubGlobal("fetch", async (path: string, init: RequestInit = {}) => {
    const method = init.method ?? "GET";
    const key = `${method} ${path.split("?")[0]}`;
    const body: unknown = typeof init.body === "string" ? JSON.parse(init.body) : undefined;
    asked.push({
      method,
      path,
      body,
      language: new Headers(init.headers).get("Accept-Language"),
    });
    const answer = all[key];
    if (answer instanceof Response) return answer.clone();
    if (typeof answer === "function") return Response.json((answer as (body: unknown, path: string) => unknown)(body, path));
    if (key in all) return Response.json(answer);
    return Response.json({ error: { code: "not_found", message: `Nothing at ${path}.`, hint: "Look elsewhere.", details: [] } }, { status: 404 });
  });
  // A stream that stays silent: what a job shows must come from its history alone.
  vi.stubGlobal("EventSource", class { static CLOSED = 2; readyState = 1; close(): void {} });
  return asked;
}
