/** Exports of a job: list, ask for one, delete one, where its files are. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { get, post, remove } from "@/api/client";
import { jobPath } from "@/api/jobs";
import type { Export, ExportFormat, ExportList } from "@/types/api";

const BUSY_MS = 1_500;

export const isUnderWay = (made: Export): boolean => made.status === "queued" || made.status === "running";

export const exportsQuery = (jobId: string) =>
  queryOptions({
    queryKey: ["jobs", jobId, "exports"],
    queryFn: ({ signal }) => get<ExportList>(`${jobPath(jobId)}/exports`, signal),
    refetchInterval: (query) => (query.state.data?.exports.some(isUnderWay) ? BUSY_MS : false),
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

export function useDeleteExport(jobId: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (format: ExportFormat) => remove(`${jobPath(jobId)}/exports/${format}`),
    onSettled: () => client.invalidateQueries({ queryKey: ["jobs", jobId, "exports"] }),
  });
}
