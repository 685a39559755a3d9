/** Names for the server's types. Everything here rests on api.gen.ts, so a renamed field breaks the build, not a user. */
import type { components, paths } from "@/types/api.gen";

type Schemas = components["schemas"];

export type Dataset = Schemas["DatasetRead"];
export type DatasetRow = Schemas["RowRead"];
export type RowPage = Schemas["RowPage"];
export type ImportProgress = Schemas["ImportRead"];
export type TokenRow = Schemas["TokensRead"];
export type TokenReport = Schemas["TokenReportRead"];
export type TokenCheck = Schemas["TokenCheckRead"];
export type Analysis = Schemas["AnalysisRead"];
export type Finding = Schemas["FindingRead"];
export type FixRequest = Schemas["FixRequest"];
export type RowEdits = Schemas["EditRequest"];
/** A shape in which rows can be taken away. */
export type RowsShape = NonNullable<NonNullable<paths["/api/datasets/{dataset_id}/export"]["get"]["parameters"]["query"]>["shape"]>;
export type ColumnMapping = Schemas["Mapping"];
export type Problem = Schemas["ProblemRead"];
export type Message = Schemas["Message"];
export type Model = Schemas["ModelRead"];
export type Plan = Schemas["PlanRead"];
export type Preset = Schemas["PresetRead"];
export type Alternative = Schemas["AlternativeRead"];
export type ResolvedValue = Schemas["ResolvedRead"];
export type Recommendation = Schemas["RecommendationRead"];
export type RecommendedModel = Recommendation["models"][number];
export type PlanRecord = Schemas["PlanRecordRead"];
export type PlannedJob = Schemas["JobRecordRead"];
export type Verdict = Plan["verdict"];
export type Objective = Plan["objective"];
export type Hardware = Schemas["HardwareRead"];
export type MemoryParts = Schemas["MemoryParts"];
export type Notice = Schemas["NoticeRead"];
export type Job = Schemas["JobRead"];
export type JobDetail = Schemas["JobDetail"];
export type JobStatus = Schemas["JobStatus"];
export type JobProgress = Schemas["Progress"];
export type JobError = Schemas["ErrorRead"];
export type JobEvent = Schemas[
  | "StatusChanged"
  | "JobFailed"
  | "PhaseStarted"
  | "DownloadProgressed"
  | "StepLogged"
  | "EvalLogged"
  | "CheckpointSaved"
  | "Noted"
  | "PriorityChanged"];
export type Checkpoint = Schemas["CheckpointRead"];
export type ExportList = Schemas["ExportList"];
export type Export = Schemas["ExportRead"];
export type ExportOffer = Schemas["OfferRead"];
export type ExportFormat = Export["format"];
export type Certificate = Schemas["CertificateRead"];
export type StartedJob = Schemas["StartedRead"];
export type MetricPoints = Schemas["MetricPoints"];
export type Report = Schemas["ReportRead"];
export type Disk = Schemas["DiskRead"];
export type TrialStep = Schemas["TrialStepRead"];
export type Comparison = Schemas["ComparisonRead"];
export type Measured = Schemas["MeasuredRead"];
export type ChatRequest = Schemas["ChatRequest"];
export type ChatAllRequest = Schemas["ChatAllRequest"];
export type ChatTarget = Schemas["ChatTarget"];
export type ChatMessage = Schemas["Message"];
export type ChatDelta = Schemas["ChatDeltaRead"];
export type JobLog = Schemas["LogRead"];
export type Device = Schemas["Device"];
export type Health = Schemas["Health"];
export type ErrorContent = Schemas["ErrorContent"];
export type Session = Schemas["SessionRead"];
export type Token = Schemas["AccessTokenRead"];
export type TokenCreated = Schemas["TokenCreated"];
export type Setting = Schemas["SettingRead"];

/** What an expert may set besides the specification's fields; absent = automatic. */
type FurtherOptions = Pick<
  Schemas["StartFinetuningRequest"],
  | "name"
  | "device_id"
  | "objective"
  | "method"
  | "beta"
  | "continue_from"
  | "gradient_accumulation_steps"
  | "long_rows"
  | "lora_rank"
  | "lora_alpha"
  | "lora_dropout"
  | "use_rslora"
  | "use_dora"
  | "target_modules"
  | "weight_decay"
  | "warmup_ratio"
  | "lr_scheduler"
  | "max_grad_norm"
  | "dtype"
  | "quantization"
  | "gradient_checkpointing"
  | "keep_best"
  | "early_stopping"
  | "report_rows"
  | "exports"
  | "seed"
>;

/** Body of POST /api/start-finetuning. The six fields are the specification's; see `Checked` for the tie to the server. */
export interface StartFinetuningRequest extends FurtherOptions {
  dataset_id: string;
  model_name: string;
  learning_rate?: number;  // Optional - uses model default
  num_epochs?: number;
  batch_size?: number;     // Optional - uses model default
  max_length?: number;     // Optional - uses model default
}

/** Fails to compile when the specification's fields no longer fit the server's body. */
type MustExtend<Part extends Whole, Whole> = Part;
export type Checked = MustExtend<StartFinetuningRequest, Schemas["StartFinetuningRequest"]>;
