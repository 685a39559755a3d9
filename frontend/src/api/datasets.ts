/** Data sets: list, read, rows, import with progress, mapping, delete. */
import { keepPreviousData, queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { errorFrom, get, languageHeader, post, put, remove, Unreachable } from "@/api/client";
import type { ColumnMapping, Dataset, ImportProgress, RowPage, TokenReport, TokenRow } from "@/types/api";

const CALM_MS = 60_000;

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

const PREVIEWED_ROWS = 50;

/** The first rows under a mapping that is still only a draft; the last answer stays until the next one is there. */
export const mappingPreviewQuery = (id: string, mapping: ColumnMapping) =>
  queryOptions({
    queryKey: ["datasets", id, "mapping-preview", mapping],
    queryFn: ({ signal }) => post<RowPage>(`${path(id)}/mapping/preview?limit=${PREVIEWED_ROWS}`, mapping, signal),
    placeholderData: keepPreviousData,
    retry: false,
  });

/** What a row is read with. */
export interface Reading {
  model: string;
  max_length?: number | undefined;
  long_rows?: string | undefined;
  method?: string | undefined;
}

const asked = (values: object): string => {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined && value !== false) search.set(name, String(value));
  return search.toString();
};

/** Counting takes a second or two for a model that has not seen these rows; the last answer stays meanwhile. */
export const tokenReportQuery = (id: string, reading: Reading) =>
  queryOptions({
    queryKey: ["datasets", id, "token-report", reading],
    queryFn: ({ signal }) => get<TokenReport>(`${path(id)}/token-report?${asked(reading)}`, signal),
    placeholderData: keepPreviousData,
    staleTime: CALM_MS,
    retry: false,
  });

export const tokenRowQuery = (id: string, row: number, { model, method }: Reading, rejected: boolean) =>
  queryOptions({
    queryKey: ["datasets", id, "tokens", row, model, method, rejected],
    queryFn: ({ signal }) => get<TokenRow>(`${path(id)}/tokens?${asked({ row, model, method, rejected })}`, signal),
    placeholderData: keepPreviousData,
    staleTime: CALM_MS,
    retry: false,
  });

const IMPORT_POLL_MS = 500;

/** How far the server is with a file that it has received whole. Asked under the name that the upload gave it. */
export const importQuery = (importId: string) =>
  queryOptions({
    queryKey: ["imports", importId],
    queryFn: ({ signal }) => get<ImportProgress>(`/api/imports/${importId}`, signal),
    refetchInterval: IMPORT_POLL_MS,
    retry: false,
    gcTime: 0,
  });

/** A name for one import. crypto.randomUUID exists only for addresses that the browser trusts. */
export const nameImport = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** How far an upload is, in bytes. */
export interface Sent {
  sent: number;
  total: number;
  /** Over the whole upload so far; 0 until the first report. */
  perSecond: number;
}

export interface Upload {
  file: File;
  importId: string;
  onProgress: (sent: Sent) => void;
  /** Breaks the upload off, and the import with it. */
  signal: AbortSignal;
}

/** XMLHttpRequest, because fetch does not report how much was sent. */
function uploadDataset({ file, importId, onProgress, signal }: Upload): Promise<Dataset> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const started = performance.now();
    request.open("POST", `/api/datasets?import_id=${importId}`);
    for (const [name, value] of Object.entries(languageHeader())) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ lengthComputable, loaded, total }) => {
      const seconds = (performance.now() - started) / 1000;
      if (lengthComputable) onProgress({ sent: loaded, total, perSecond: seconds > 0 ? loaded / seconds : 0 });
    };
    request.onerror = () => reject(new Unreachable("upload"));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
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
