/** Data sets: list, read, rows, import with progress, mapping, delete. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { errorFrom, get, languageHeader, post, put, remove, Unreachable } from "@/api/client";
import type { ColumnMapping, Dataset, RowPage } from "@/types/api";

const path = (id: string): string => `/api/datasets/${encodeURIComponent(id)}`;

export const datasetsQuery = queryOptions({
  queryKey: ["datasets"],
  queryFn: async ({ signal }) => (await get<{ datasets: Dataset[] }>("/api/datasets", signal)).datasets,
});

export const datasetQuery = (id: string) =>
  queryOptions({ queryKey: ["datasets", id], queryFn: ({ signal }) => get<Dataset>(path(id), signal) });

export const rowsQuery = (id: string, offset: number, limit: number) =>
  queryOptions({
    queryKey: ["datasets", id, "rows", offset, limit],
    queryFn: ({ signal }) => get<RowPage>(`${path(id)}/rows?offset=${offset}&limit=${limit}`, signal),
  });

export interface Upload {
  file: File;
  onProgress: (share: number) => void;
}

/** XMLHttpRequest, because fetch does not report how much was sent. */
function uploadDataset({ file, onProgress }: Upload): Promise<Dataset> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/datasets");
    for (const [name, value] of Object.entries(languageHeader())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    };
    request.onerror = () => reject(new Unreachable("upload"));
    request.onload = () => {
      if (request.status < 400) resolve(JSON.parse(request.responseText) as Dataset);
      else reject(errorFrom(request.status, request.responseText));
    };
    const form = new FormData();
    form.append("file", file);
    request.send(form);
  });
}

export function useUploadDataset() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: uploadDataset,
    onSuccess: (dataset) => {
      client.setQueryData(datasetQuery(dataset.dataset_id).queryKey, dataset);
      return client.invalidateQueries({ queryKey: datasetsQuery.queryKey, exact: true });
    },
  });
}

export function useSampleDataset() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: () => post<Dataset>("/api/datasets/sample"),
    onSuccess: () => client.invalidateQueries({ queryKey: datasetsQuery.queryKey, exact: true }),
  });
}

export function useRemapDataset(id: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (mapping: ColumnMapping) => put<Dataset>(`${path(id)}/mapping`, mapping),
    onSuccess: () => client.invalidateQueries({ queryKey: ["datasets"] }),
  });
}

export function useDeleteDataset() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => remove(path(id)),
    onSuccess: (_nothing, id) => {
      client.removeQueries({ queryKey: ["datasets", id] });
      return client.invalidateQueries({ queryKey: datasetsQuery.queryKey, exact: true });
    },
  });
}
