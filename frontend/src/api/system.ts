/** Whether the server is there, and what machine it runs on. */
import { queryOptions } from "@tanstack/react-query";
import { get } from "@/api/client";
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
