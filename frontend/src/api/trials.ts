/** Lets the original model answer some rows before a training; results arrive row by row. */
import { send } from "@/api/client";
import { readEventData } from "@/lib/sse";
import type { TrialStep } from "@/types/api";

export async function* streamTrial(datasetId: string, modelName: string, signal: AbortSignal): AsyncGenerator<TrialStep> {
  const response = await send(`/api/datasets/${encodeURIComponent(datasetId)}/trial`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model_name: modelName }),
    signal,
  });
  if (!response.body) return;
  for await (const data of readEventData(response.body)) yield JSON.parse(data) as TrialStep;
}
