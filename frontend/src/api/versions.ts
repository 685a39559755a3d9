/** Versions of a data set: what a second look found, fixes and edits, each a new data set beside the old one; files to take away. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { get, post, send } from "@/api/client";
import { datasetQuery, datasetsQuery } from "@/api/datasets";
import type { Analysis, Dataset, FixRequest, RowEdits, RowsShape } from "@/types/api";

const RUNNING_MS = 1_000;

const path = (id: string, part: string): string => `/api/datasets/${encodeURIComponent(id)}/${part}`;

/** Rows that cannot be used, with their problems, as a file. */
export const badRowsPath = (id: string): string => path(id, "bad-rows");

const exportPath = (id: string, shape: RowsShape): string => path(id, `export?shape=${shape}`);

/** The second look begins when it is asked for; asked again until it is done. */
export const analysisQuery = (id: string) =>
  queryOptions({
    queryKey: ["datasets", id, "analysis"],
    queryFn: ({ signal }) => get<Analysis>(path(id, "analysis"), signal),
    refetchInterval: ({ state }) => (state.data?.state === "running" ? RUNNING_MS : false),
  });

/** Every version of the same data, the first one first. */
export const versionsQuery = (id: string) =>
  queryOptions({
    queryKey: ["datasets", id, "versions"],
    queryFn: async ({ signal }) => (await get<{ datasets: Dataset[] }>(path(id, "versions"), signal)).datasets,
  });

function useNewVersion<Body>(id: string, part: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (body: Body) => post<Dataset>(path(id, part), body),
    onSuccess: (version) => {
      client.setQueryData(datasetQuery(version.dataset_id).queryKey, version);
      return client.invalidateQueries({ queryKey: datasetsQuery.queryKey, exact: true });
    },
  });
}

export const useFixDataset = (id: string) => useNewVersion<FixRequest>(id, "fixes");

export const useEditDataset = (id: string) => useNewVersion<RowEdits>(id, "edits");

/** Returns the address of the rows in a shape. Asks first: the server refuses a shape that would lose something, and says why. */
async function offerExport(id: string, shape: RowsShape): Promise<string> {
  const stop = new AbortController();
  await send(exportPath(id, shape), { signal: stop.signal });
  stop.abort();
  return exportPath(id, shape);
}

export const useExportRows = (id: string) => useMutation({ mutationFn: (shape: RowsShape) => offerExport(id, shape) });
