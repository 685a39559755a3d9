/** What would happen if this were started: memory, time, every value. Starts nothing. */
import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { post } from "@/api/client";
import type { Plan, StartFinetuningRequest } from "@/types/api";

/** The last plan stays on the screen while the next one is computed, so that the bar never flickers. */
export const planQuery = (request: StartFinetuningRequest) =>
  queryOptions({
    queryKey: ["plans", request],
    queryFn: ({ signal }) => post<Plan>("/api/plans", request, signal),
    placeholderData: keepPreviousData,
    retry: false,
  });
