import { describe, expect, test } from "vitest";
import { createFormatter } from "@/lib/format";
import { findLimitProblem, readNumber } from "@/lib/limits";
import { applyEvent } from "@/lib/progress";
import { smoothed, withPoint } from "@/lib/series";
import { readEventData } from "@/lib/sse";
import { en } from "@/locales/en";
import { fr } from "@/locales/fr";
import { startLimits } from "@/types/limits.gen";
import { job } from "./server";

test("sizes and durations follow the language", () => {
  const [english, french] = [createFormatter("en"), createFormatter("fr")];
  expect(english.bytes(1.4 * 2 ** 30)).toBe("1.4\u00a0GB");
  expect(french.bytes(1.4 * 2 ** 30)).toBe("1,4\u00a0Go");
  expect(english.duration(190)).toBe("3\u00a0min\u00a010\u00a0s");
  expect(english.estimate(7_512)).toBe("2\u00a0h\u00a005\u00a0min");
  expect(english.small(0.0003)).toBe("3e-4");
  expect(french.small(0.00025)).toBe("2,5e-4");
});

test("typed numbers are read as people write them", () => {
  expect(["3e-4", "0,5", " 7 ", ""].map(readNumber)).toEqual([0.0003, 0.5, 7, undefined]);
});

test("limits are those of the contract, open and closed ends included", () => {
  expect(findLimitProblem("learning_rate", 0)?.kind).toBe("above");
  expect(findLimitProblem("learning_rate", startLimits.learning_rate.maximum)).toBeUndefined();
  expect(findLimitProblem("num_epochs", 1.5)?.kind).toBe("integer");
  expect(findLimitProblem("num_epochs", Number.NaN)?.kind).toBe("number");
  expect(findLimitProblem("num_epochs", startLimits.num_epochs.maximum + 1)).toEqual({ kind: "most", bound: startLimits.num_epochs.maximum });
});

describe("live progress", () => {
  test("an event moves the job once, however often it arrives", () => {
    const event = { kind: "eval_logged", seq: 71, step: 80, epoch: 4, loss: 1.1, rows: 20, tokens: 500 } as const;
    const once = applyEvent(job(), event);
    expect(once.progress.heldout_loss).toBe(1.1);
    expect(once.progress.heldout_loss_before).toBe(3.5);
    expect(applyEvent(once, { ...event, loss: 9 })).toBe(once);
  });

  test("history and live points may overlap", () => {
    const curve = withPoint({ steps: [1, 2], values: [3, 2] }, 2, 2.5);
    expect(withPoint(curve, 3, 1)).toEqual({ steps: [1, 2, 3], values: [3, 2.5, 1] });
  });

  test("smoothing keeps a constant and starts at the first value", () => {
    expect(smoothed([2, 2, 2], 0.8)).toEqual([2, 2, 2].map((value) => expect.closeTo(value, 9) as number));
  });
});

test("server-sent events are read across chunks, with comments and multi-byte letters cut in two", async () => {
  const bytes = new TextEncoder().encode(': ping\n\ndata: {"a":"é"}\n\ndata: 1\ndata: 2\n\n');
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
      controller.close();
    },
  });
  const seen: string[] = [];
  for await (const data of readEventData(body)) seen.push(data);
  expect(seen).toEqual(['{"a":"é"}', "1\n2"]);
});

test("French leaves no English sentence in place and keeps French typography", () => {
  const texts = (tree: object, path = ""): [string, string][] =>
    Object.entries(tree).flatMap(([key, value]) =>
      typeof value === "string" ? [[`${path}.${key}`, value] as [string, string]] : typeof value === "object" ? texts(value as object, `${path}.${key}`) : [],
    );
  const english = new Map(texts(en));
  // Names of formats that French borrows unchanged.
  const borrowed = /^\.dataset\.shapes\.|^\.exports\.names\.gguf-/;
  const same = texts(fr).filter(([path, text]) => text.includes(" ") && english.get(path) === text && !borrowed.test(path));
  expect(same).toEqual([]);
  expect(texts(fr).filter(([, text]) => /[\p{L}] [;:?!]|'/u.test(text))).toEqual([]);
});
