/** The catalogue of models, each with what it means on this machine; ranked for one's data; added and removed. */
import { keepPreviousData, queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { get, post, remove } from "@/api/client";
import type { Model, Objective, Recommendation } from "@/types/api";

const CALM_MS = 30_000;

export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async ({ signal }) => (await get<{ models: Model[] }>("/api/models/available", signal)).models,
  staleTime: CALM_MS,
});

/** Every model with the plan that suits this machine, this data and this objective; the best first. */
export const recommendedQuery = (datasetId: string | undefined, objective: Objective | undefined) =>
  queryOptions({
    queryKey: ["recommended", datasetId, objective],
    queryFn: ({ signal }) => {
      const search = new URLSearchParams();
      if (datasetId) search.set("dataset_id", datasetId);
      if (objective) search.set("objective", objective);
      return get<Recommendation>(`/api/models/recommended?${search.toString()}`, signal);
    },
    staleTime: CALM_MS,
    placeholderData: keepPreviousData,
    retry: false,
  });

function useRefreshModels(): () => Promise<unknown> {
  const client = useQueryClient();
  return () =>
    Promise.all([
      client.invalidateQueries({ queryKey: modelsQuery.queryKey }),
      client.invalidateQueries({ queryKey: ["recommended"] }),
    ]);
}

/** `model`: a hub id ("owner/name") or a folder on the server's machine. Nothing but its config.json is read. */
export function useAddModel() {
  const refresh = useRefreshModels();
  return useMutation({ mutationFn: (model: string) => post<Model>("/api/models", { model }), onSuccess: refresh });
}

export function useRemoveModel() {
  const refresh = useRefreshModels();
  return useMutation({
    mutationFn: (id: string) => remove(`/api/models/${id.split("/").map(encodeURIComponent).join("/")}`),
    onSettled: refresh,
  });
}
