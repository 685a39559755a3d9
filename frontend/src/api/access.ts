/** Whether this browser is signed in, the access tokens, and the settings to look at. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { get, post, remove } from "@/api/client";
import type { Session, Setting, Token, TokenCreated } from "@/types/api";

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: ({ signal }) => get<Session>("/api/session", signal),
  staleTime: Infinity,
  retry: false,
});

export const tokensQuery = queryOptions({
  queryKey: ["tokens"],
  queryFn: async ({ signal }) => (await get<{ tokens: Token[] }>("/api/tokens", signal)).tokens,
});

export const settingsQuery = queryOptions({
  queryKey: ["settings"],
  queryFn: async ({ signal }) => (await get<{ settings: Setting[] }>("/api/settings", signal)).settings,
});

/** Exchanges a token, or the one-time code of a launch link, for a cookie that the page itself cannot read. */
export function useSignIn() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (secret: { token: string } | { code: string }) => post<Session>("/api/session", secret),
    onSuccess: () => client.invalidateQueries(),
  });
}

/** Ends this browser's session; what it has seen is forgotten. */
export function useSignOut() {
  const client = useQueryClient();
  return useMutation({ mutationFn: () => remove("/api/session"), onSuccess: () => client.resetQueries() });
}

export function useCreateToken() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => post<TokenCreated>("/api/tokens", { name }),
    onSuccess: () => client.invalidateQueries({ queryKey: tokensQuery.queryKey }),
  });
}

export function useRevokeToken() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => remove(`/api/tokens/${encodeURIComponent(id)}`),
    onSettled: () =>
      Promise.all([tokensQuery, sessionQuery].map(({ queryKey }) => client.invalidateQueries({ queryKey }))),
  });
}
