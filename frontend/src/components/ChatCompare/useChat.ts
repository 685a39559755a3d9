import { useEffect, useRef, useState } from "react";
import { streamChat } from "@/api/chat";
import { answerAfter, closed, EMPTY, type Answer } from "@/lib/answer";
import type { ChatDelta } from "@/types/api";

/** The targets that the server names in its stream. */
export const TARGETS = ["tuned", "base"] as const;
export type Target = (typeof TARGETS)[number];

export interface Turn {
  id: number;
  question: string;
  answers: Record<Target, Answer>;
  error?: Error | undefined;
}

export interface Generation {
  max_new_tokens?: number | undefined;
  temperature?: number | undefined;
}

function turnAfter(turn: Turn, delta: ChatDelta): Turn {
  const target = TARGETS.find((name) => name === delta.target);
  return target ? { ...turn, answers: { ...turn.answers, [target]: answerAfter(turn.answers[target], delta) } } : turn;
}

const closedTurn = (turn: Turn): Turn => ({
  ...turn,
  answers: { tuned: closed(turn.answers.tuned), base: closed(turn.answers.base) },
});

/** One question at a time, to both models; each turn stands alone, so that the two stay comparable. */
export function useChat(jobId: string) {
  const [turns, setTurns] = useState<Turn[]>([]);
  const [busy, setBusy] = useState(false);
  const stopper = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => stopper.current?.abort(), [jobId]);

  const ask = async (question: string, generation: Generation): Promise<void> => {
    const id = Date.now();
    const change = (edit: (turn: Turn) => Turn): void =>
      setTurns((all) => all.map((turn) => (turn.id === id ? edit(turn) : turn)));
    const controller = new AbortController();
    stopper.current = controller;
    setBusy(true);
    setTurns((all) => [...all, { id, question, answers: { tuned: EMPTY, base: EMPTY } }]);
    try {
      const request = { messages: [{ role: "user" as const, content: question }], compare: true, ...generation };
      for await (const delta of streamChat(jobId, request, controller.signal)) change((turn) => turnAfter(turn, delta));
    } catch (error) {
      if (!controller.signal.aborted) change((turn) => ({ ...turn, error: error as Error }));
    } finally {
      change(closedTurn);
      setBusy(false);
    }
  };

  return { turns, busy, ask, stop: () => stopper.current?.abort(), clear: () => setTurns([]) };
}
