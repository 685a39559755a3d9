/** The only place that knows HTTP: JSON in and out, the house error body, the reader's language. */
import type { Language } from "@/lib/language";
import type { ErrorContent } from "@/types/api";

let requestLanguage: Language = "en";

/** Sentences from the server come in this language from now on. */
export function setRequestLanguage(language: Language): void {
  requestLanguage = language;
}

export const languageHeader = (): Record<string, string> => ({ "Accept-Language": requestLanguage });

/** An answer with a status of 400 or more, in the house's words. */
export class ApiError extends Error {
  readonly status: number;
  readonly content: ErrorContent;

  constructor(status: number, content: ErrorContent) {
    super(content.message);
    this.status = status;
    this.content = content;
  }
}

/** No answer at all: the server is down or the network is gone. */
export class Unreachable extends Error {}

export function errorFrom(status: number, text: string): Error {
  try {
    const body = JSON.parse(text) as { error?: ErrorContent };
    if (body.error) return new ApiError(status, body.error);
  } catch {
    // Not the house body: a proxy in between answered. Treated like a server that is not there.
  }
  return status >= 502 && status <= 504
    ? new Unreachable(`HTTP ${status}`)
    : new ApiError(status, { code: "internal", message: `HTTP ${status}`, hint: "", details: [] });
}

export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers: { ...languageHeader(), ...init.headers } });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable(String(error));
  }
  if (!response.ok) throw errorFrom(response.status, await response.text());
  return response;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await send(path, { signal: signal ?? null });
  return (await response.json()) as T;
}

async function withBody<T>(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method, signal: signal ?? null };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  const response = await send(path, init);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export const post = <T>(path: string, body?: unknown, signal?: AbortSignal): Promise<T> => withBody("POST", path, body, signal);
export const put = <T>(path: string, body: unknown): Promise<T> => withBody("PUT", path, body);
export const remove = (path: string): Promise<void> => withBody("DELETE", path, undefined);

/** The sentence about each field that the server refused. */
export function refusedFields(error: Error | null): Record<string, string> {
  if (!(error instanceof ApiError)) return {};
  return Object.fromEntries(
    (error.content.details ?? []).flatMap(({ field, message }) =>
      typeof field === "string" && typeof message === "string" ? [[field, message]] : [],
    ),
  );
}
