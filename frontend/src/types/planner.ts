/** The planner's answers beyond api.gen.ts. Every addition may be absent: the page shows what there is. */
import type { components } from "@/types/api.gen";

type Schemas = components["schemas"];
export type Verdict = Schemas["PlanRead"]["verdict"];
export type Objective = "speed" | "balanced" | "quality";

export interface Bound {
  /** Null when nothing was measured yet that a confidence could come from. */
  confidence: number | null;
  samples: number;
  factor: number;
  own_samples: number;
}

export type KnobKind =
  | "runner_up"
  | "batch_size"
  | "gradient_checkpointing"
  | "max_length"
  | "dtype"
  | "quantization"
  | "objective";

export interface Alternative {
  kind: KnobKind;
  changes: Record<string, unknown>;
  peak_bytes: number;
  peak_bytes_upper: number;
  seconds_p50: number;
  seconds_p90: number;
  verdict: Verdict;
  message: string;
}

export type ResolvedValue = Schemas["ResolvedRead"] & { automatic?: unknown };

export type Plan = Omit<Schemas["PlanRead"], "alternatives" | "resolved"> & {
  resolved: Record<string, ResolvedValue>;
  alternatives: Alternative[];
  objective?: Objective;
  memory_method?: "traced" | "closed_form" | "rough";
  time_method?: "calibrated" | "table" | "guessed";
  bound?: Bound | null;
  cut_rows_share?: number;
  cut_tokens_share?: number;
  reserved_bytes?: number | null;
};

export interface RecommendedModel {
  id: string;
  name: string;
  rank: number;
  recommended: boolean;
  dominated: boolean;
  dominated_by: string | null;
  quality: number;
  quality_source: string;
  quality_rating: number;
  speed_rating: number;
  params: number | null;
  weights: Schemas["ModelRead"]["weights"];
  vram_required_gb: number;
  seconds_p50: number;
  seconds_p90: number;
  peak_bytes: number;
  peak_bytes_upper: number;
  verdict: Verdict;
  reason: string;
}

export interface Recommendation {
  objective: Objective;
  device_name: string;
  memory_bytes: number;
  dataset_id: string | null;
  train_rows: number;
  models: RecommendedModel[];
}

export interface Calibration {
  measured_at: string;
  seconds: number;
  half_gflops?: number;
  full_gflops?: number;
  bandwidth_gb?: number;
  step_factor?: number;
}

export type Hardware = Schemas["HardwareRead"] & { calibration?: Calibration | null };
export type Model = Schemas["ModelRead"] & { added?: boolean };

export interface PlannedJob {
  job_id: string;
  name: string;
  model_id: string;
  device_id: string;
  finished_at: string;
  planned_peak_bytes: number;
  measured_peak_bytes: number | null;
  planned_seconds: number;
  measured_seconds: number | null;
}

export interface PlanRecord {
  jobs: PlannedJob[];
  summary: {
    count: number;
    peak_mean_abs_pct: number | null;
    peak_worst_under_pct: number | null;
    seconds_mean_abs_pct: number | null;
  };
}
