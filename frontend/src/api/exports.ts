/** Exports of a job: list, ask for one, delete one, where its files are. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { get, post, remove } from "@/api/client";
import { jobPath } from "@/api/jobs";
import type { Export, ExportFormat, ExportList, ExportOffer } from "@/types/api";

const BUSY_MS = 1_500;

export const isUnderWay = (made: Export): boolean => made.status === "queued" || made.status === "running";

const isBusy = (made: Export): boolean => isUnderWay(made) || made.push?.state === "running";

export const exportsQuery = (jobId: string) =>
  queryOptions({
    queryKey: ["jobs", jobId, "exports"],
    queryFn: ({ signal }) => get<ExportList>(`${jobPath(jobId)}/exports`, signal),
    refetchInterval: (query) => (query.state.data?.exports.some(isBusy) ? BUSY_MS : false),
  });

/** What a model can be written as, asked before it is trained. */
export const offersQuery = (modelName: string | undefined) =>
  queryOptions({
    queryKey: ["offers", modelName],
    queryFn: async ({ signal }) =>
      (await get<{ offers: ExportOffer[] }>(`/api/exports/offers?model_name=${encodeURIComponent(modelName ?? "")}`, signal)).offers,
    staleTime: Infinity,
    retry: false,
  });

export const exportFilePath = (jobId: string, format: ExportFormat, name: string): string =>
  `${jobPath(jobId)}/exports/${format}/files/${encodeURIComponent(name)}`;

export function useStartExport(jobId: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (format: ExportFormat) => post<Export>(`${jobPath(jobId)}/exports`, { format }),
    onSettled: () => client.invalidateQueries({ queryKey: ["jobs", jobId, "exports"] }),
  });
}

export function usePushExport(jobId: string, format: ExportFormat) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (body: { repo_id: string; private: boolean }) => post<Export>(`${jobPath(jobId)}/exports/${format}/push`, body),
    onSettled: () => client.invalidateQueries({ queryKey: ["jobs", jobId, "exports"] }),
  });
}

export function useDeleteExport(jobId: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (format: ExportFormat) => remove(`${jobPath(jobId)}/exports/${format}`),
    onSettled: () => client.invalidateQueries({ queryKey: ["jobs", jobId, "exports"] }),
  });
}
