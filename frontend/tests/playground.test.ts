import { describe, expect, test } from "vitest";
import { distinct, listVoices, type Voice } from "@/components/ChatPlayground/targets";
import { conversationOf, type PlaygroundTurn } from "@/components/ChatPlayground/useConversation";
import { EMPTY } from "@/lib/answer";
import { en } from "@/locales/en";
import type { Checkpoint, Job, Model } from "@/types/api";

const voice = (key: string): Voice => ({ key, label: key, target: { model: key }, tuned: false });
const said = (text: string) => ({ ...EMPTY, text, finished: true });
const turn = (question: string, voices: Voice[], ...answers: string[]): PlaygroundTurn => ({
  id: Math.random(),
  question,
  voices,
  answers: answers.map(said),
});
const job = (id: string, name: string): Job => ({ job_id: id, name, can_chat: true, model_id: "m" }) as Job;
const number = (value: number): string => String(value);

describe("a conversation with several voices", () => {
  test("gives each its own answers back", () => {
    const [first, second] = [voice("first"), voice("second")];
    const turns = [turn("one?", [first, second], "A", "B")];
    expect(conversationOf(second, turns, "", "two?").map(({ content }) => content)).toEqual(["one?", "B", "two?"]);
  });

  test("begins anew for a voice that joins later, and leaves out what it could not answer", () => {
    const [first, second] = [voice("first"), voice("second")];
    const turns = [turn("one?", [first], "A"), turn("two?", [first, second], "", "D")];
    expect(conversationOf(second, turns, " Be brief. ", "three?").map(({ role, content }) => `${role}: ${content}`)).toEqual([
      "system: Be brief.",
      "user: two?",
      "assistant: D",
      "user: three?",
    ]);
    expect(conversationOf(first, turns, "", "three?").map(({ content }) => content)).toEqual(["one?", "A", "three?"]);
  });
});

describe("who can be asked", () => {
  const models = [{ id: "here", name: "Here", weights: "ready" }, { id: "away", name: "Away", weights: "downloadable" }] as Model[];

  test("lists trainings, models whose weights are here, and whole checkpoints of chosen trainings", () => {
    const checkpoints = [
      { name: "checkpoint-8", step: 8, whole: true, best: true },
      { name: "checkpoint-4", step: 4, whole: false, best: false },
    ] as Checkpoint[];
    const groups = listVoices(models, [job("j1", "Mail")], new Map([["j1", checkpoints]]), en.playground, number);
    expect(groups.map(({ title, voices }) => [title, voices.map(({ label }) => label)])).toEqual([
      ["Your trainings", ["Mail"]],
      ["Original models", ["Here"]],
      ["Checkpoints of Mail", ["Mail, step 8 (best)"]],
    ]);
    expect(groups[2]?.voices[0]?.target).toEqual({ job_id: "j1", checkpoint: "checkpoint-8" });
  });

  test("tells trainings of the same name apart", () => {
    const groups = distinct(listVoices([], [job("job-000aaa", "Mail"), job("job-000bbb", "Mail")], new Map(), en.playground, number));
    expect(groups[0]?.voices.map(({ label }) => label)).toEqual(["Mail · 000aaa", "Mail · 000bbb"]);
  });
});
