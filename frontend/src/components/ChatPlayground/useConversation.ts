import { useEffect, useRef, useState } from "react";
import { streamAll } from "@/api/chat";
import { answerAfter, closed, EMPTY, type Answer } from "@/lib/answer";
import type { ChatAllRequest, ChatMessage } from "@/types/api";
import type { Voice } from "./targets";

export interface PlaygroundTurn {
  id: number;
  question: string;
  voices: Voice[];
  answers: Answer[];
  error?: Error | undefined;
}

export type Drawing = Pick<ChatAllRequest, "max_new_tokens" | "temperature" | "top_p" | "seed" | "stop">;

/** What one voice has heard and said so far; turns that it took no part in do not count for it. */
export function conversationOf(voice: Voice, turns: PlaygroundTurn[], system: string, question: string): ChatMessage[] {
  const messages: ChatMessage[] = system.trim() ? [{ role: "system", content: system.trim() }] : [];
  for (const turn of turns) {
    const place = turn.voices.findIndex(({ key }) => key === voice.key);
    const said = turn.answers[place]?.text;
    if (said) messages.push({ role: "user", content: turn.question }, { role: "assistant", content: said });
  }
  return [...messages, { role: "user", content: question }];
}

/** A conversation with several voices at once; each goes on from its own answers. */
export function useConversation() {
  const [turns, setTurns] = useState<PlaygroundTurn[]>([]);
  const [busy, setBusy] = useState(false);
  const stopper = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => stopper.current?.abort(), []);

  const ask = async (question: string, voices: Voice[], system: string, drawing: Drawing): Promise<void> => {
    const id = Date.now();
    const change = (edit: (turn: PlaygroundTurn) => PlaygroundTurn): void =>
      setTurns((all) => all.map((turn) => (turn.id === id ? edit(turn) : turn)));
    const controller = new AbortController();
    stopper.current = controller;
    setBusy(true);
    setTurns((all) => [...all, { id, question, voices, answers: voices.map(() => EMPTY) }]);
    try {
      const targets = voices.map((voice) => ({ ...voice.target, messages: conversationOf(voice, turns, system, question) }));
      for await (const delta of streamAll({ ...drawing, targets } as ChatAllRequest, controller.signal))
        change((turn) => ({
          ...turn,
          answers: turn.answers.map((answer, place) => (String(place) === delta.target ? answerAfter(answer, delta) : answer)),
        }));
    } catch (error) {
      if (!controller.signal.aborted) change((turn) => ({ ...turn, error: error as Error }));
    } finally {
      change((turn) => ({ ...turn, answers: turn.answers.map(closed) }));
      setBusy(false);
    }
  };

  return { turns, busy, ask, stop: () => stopper.current?.abort(), clear: () => setTurns([]) };
}
