/** What takes the disk, and deleting what can go. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { get, remove } from "@/api/client";
import { jobPath } from "@/api/jobs";
import type { Disk } from "@/types/api";

export const diskQuery = queryOptions({ queryKey: ["disk"], queryFn: ({ signal }) => get<Disk>("/api/disk", signal) });

const weightsPath = (modelId: string): string => `/api/disk/models/${modelId.split("/").map(encodeURIComponent).join("/")}`;

function useFree<Key>(path: (key: Key) => string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (key: Key) => remove(path(key)),
    onSettled: () =>
      Promise.all([["disk"], ["jobs"], ["models"]].map((queryKey) => client.invalidateQueries({ queryKey }))),
  });
}

export const useDeleteWeights = () => useFree(weightsPath);
export const useDeleteCheckpoints = () => useFree((jobId: string) => `${jobPath(jobId)}/checkpoints`);
export const useDeleteJob = () => useFree(jobPath);
