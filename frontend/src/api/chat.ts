/** Asks models; answers arrive piece by piece. */
import { jobPath } from "@/api/jobs";
import { send } from "@/api/client";
import { readEventData } from "@/lib/sse";
import type { ChatAllRequest, ChatDelta, ChatRequest } from "@/types/api";

async function* stream(path: string, request: unknown, signal: AbortSignal): AsyncGenerator<ChatDelta> {
  const response = await send(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });
  if (!response.body) return;
  for await (const data of readEventData(response.body)) yield JSON.parse(data) as ChatDelta;
}

/** The tuned model, and the original beside it. */
export const streamChat = (jobId: string, request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatDelta> =>
  stream(`${jobPath(jobId)}/chat`, request, signal);

/** Any models, jobs and checkpoints at once; `target` of a piece is the place in the list. */
export const streamAll = (request: ChatAllRequest, signal: AbortSignal): AsyncGenerator<ChatDelta> =>
  stream("/api/chat", request, signal);
