/** What would happen if this were started: memory, time, every value. Starts nothing. And how right earlier plans were. */
import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { get, post } from "@/api/client";
import type { Plan, PlanRecord, Preset, StartFinetuningRequest } from "@/types/api";

/** The last plan stays on the screen while the next one is computed, so that the bar never flickers. */
export const planQuery = (request: StartFinetuningRequest) =>
  queryOptions({
    queryKey: ["plans", request],
    queryFn: ({ signal }) => post<Plan>("/api/plans", request, signal),
    placeholderData: keepPreviousData,
    retry: false,
  });

/** Planned against measured, for every finished training of this machine. */
export const planRecordQuery = queryOptions({
  queryKey: ["plan-record"],
  queryFn: ({ signal }) => get<PlanRecord>("/api/plans/record", signal),
});

/** What is usual for each type of task, for these rows and this model. */
export const presetsQuery = (datasetId: string, model: string) =>
  queryOptions({
    queryKey: ["presets", datasetId, model],
    queryFn: async ({ signal }) =>
      (await get<{ presets: Preset[] }>(`/api/presets?${new URLSearchParams({ dataset_id: datasetId, model }).toString()}`, signal)).presets,
    placeholderData: keepPreviousData,
    retry: false,
  });
