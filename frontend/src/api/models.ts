/** The catalogue of models, each with what it means on this machine. */
import { queryOptions } from "@tanstack/react-query";
import { get } from "@/api/client";
import type { Model } from "@/types/api";

export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async ({ signal }) => (await get<{ models: Model[] }>("/api/models/available", signal)).models,
  staleTime: 30_000,
});
