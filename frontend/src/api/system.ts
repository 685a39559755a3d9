/** Whether the server is there, what machine it runs on, and how fast that is. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { get, post } from "@/api/client";
import type { Hardware, Health } from "@/types/api";

const CALM_MS = 20_000;
const WAITING_MS = 2_500;

/** Asks again soon while the server is away, so that the page recovers by itself. */
export const healthQuery = queryOptions({
  queryKey: ["health"],
  queryFn: ({ signal }) => get<Health>("/api/health", signal),
  retry: false,
  refetchInterval: (query) => (query.state.status === "error" ? WAITING_MS : CALM_MS),
});

export const hardwareQuery = queryOptions({
  queryKey: ["hardware"],
  queryFn: ({ signal }) => get<Hardware>("/api/hardware", signal),
  staleTime: 30_000,
});

/** Measures this machine for a few seconds; every later plan counts with what was found. */
export function useCalibrate() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: () => post<unknown>("/api/hardware/calibrate"),
    onSuccess: () =>
      Promise.all([["hardware"], ["plans"], ["recommended"], ["models"]].map((queryKey) => client.invalidateQueries({ queryKey }))),
  });
}
