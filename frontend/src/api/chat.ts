/** Asks the tuned model, and the original beside it; answers arrive piece by piece. */
import { jobPath } from "@/api/jobs";
import { send } from "@/api/client";
import { readEventData } from "@/lib/sse";
import type { ChatDelta, ChatRequest } from "@/types/api";

export async function* streamChat(jobId: string, request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatDelta> {
  const response = await send(`${jobPath(jobId)}/chat`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });
  if (!response.body) return;
  for await (const data of readEventData(response.body)) yield JSON.parse(data) as ChatDelta;
}
