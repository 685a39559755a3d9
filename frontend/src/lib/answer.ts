/** One model's answer while it arrives piece by piece. */
import type { ChatDelta } from "@/types/api";

export interface Answer {
  text: string;
  finished: boolean;
  waiting: boolean;
  tokens: number;
  seconds: number;
  error?: string | undefined;
}

export const EMPTY: Answer = { text: "", finished: false, waiting: false, tokens: 0, seconds: 0 };

export function answerAfter(answer: Answer, delta: ChatDelta): Answer {
  return {
    text: answer.text + (delta.delta ?? ""),
    finished: answer.finished || (delta.finished ?? false) || Boolean(delta.error),
    waiting: delta.waiting ?? false,
    tokens: delta.tokens || answer.tokens,
    seconds: delta.seconds || answer.seconds,
    error: delta.error ? [delta.error.message, delta.error.hint].filter(Boolean).join(" ") : answer.error,
  };
}

/** An answer that nobody writes any more. */
export const closed = (answer: Answer): Answer => ({ ...answer, finished: true, waiting: false });
