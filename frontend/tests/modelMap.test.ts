import { expect, test } from "vitest";
import { placeModels, qualityTicks, timeTicks, type Frame } from "@/components/ModelMap/layout";
import { readOption, writeOption } from "@/lib/optionText";
import { ranked } from "./server";

const frame: Frame = { width: 600, height: 380, left: 34, right: 14, top: 26, bottom: 38 };
const many = Array.from({ length: 26 }, (_, index) =>
  ranked({ id: `m${index}`, name: `Model number ${index}`, seconds_p50: 60 * 1.25 ** index, quality: 20 + (index % 7) * 6, peak_bytes: (index + 1) * 2 ** 29 }),
);

test("faster stands further left, better stands higher, and everything stands inside the frame", () => {
  const spots = placeModels(many, "m3", frame);
  const [first, last] = [spots[0], spots.at(-1)];
  expect(first && last && first.x < last.x).toBe(true);
  for (const { x, y } of spots) {
    expect(x).toBeGreaterThanOrEqual(frame.left);
    expect(x).toBeLessThanOrEqual(frame.width - frame.right);
    expect(y).toBeGreaterThanOrEqual(frame.top);
    expect(y).toBeLessThanOrEqual(frame.height - frame.bottom);
  }
  const [low, high] = [spots.find(({ model }) => model.quality === 20), spots.find(({ model }) => model.quality === 56)];
  expect(low && high && high.y < low.y).toBe(true);
});

test("the chosen model is always named, and no two names cross", () => {
  const named = placeModels(many, "m3", frame).filter(({ name }) => name !== undefined);
  expect(named.some(({ model }) => model.id === "m3")).toBe(true);
  const boxes = named.map(({ model, name }) => {
    const long = model.name.length * 6.6;
    const left = name?.anchor === "start" ? name.x : name?.anchor === "end" ? name.x - long : (name?.x ?? 0) - long / 2;
    return { left, right: left + long, top: (name?.y ?? 0) - 7, bottom: (name?.y ?? 0) + 7 };
  });
  const crossing = boxes.flatMap((one, index) =>
    boxes.slice(index + 1).filter((other) => one.left < other.right && one.right > other.left && one.top < other.bottom && one.bottom > other.top),
  );
  expect(crossing).toEqual([]);
});

test("a single model, or models that are all alike, still have a place and ticks", () => {
  for (const models of [[ranked({})], [ranked({}), ranked({ id: "twin" })]]) {
    expect(placeModels(models, undefined, frame).every(({ x, y }) => Number.isFinite(x) && Number.isFinite(y))).toBe(true);
    expect(qualityTicks(models, frame).length).toBeGreaterThan(1);
    expect(timeTicks(models, frame).every(({ at }) => Number.isFinite(at))).toBe(true);
  }
});

test("time ticks keep their distance", () => {
  const ticks = timeTicks(many, frame).map(({ at }) => at);
  expect(ticks.slice(1).every((at, index) => at - (ticks[index] ?? 0) >= 60)).toBe(true);
});

test("every option's text reads back as its value", () => {
  expect(readOption("target_modules", writeOption(["q_proj", "v_proj"]))).toEqual(["q_proj", "v_proj"]);
  expect(readOption("gradient_checkpointing", writeOption(false))).toBe(false);
  expect(readOption("learning_rate", writeOption(0.0003))).toBe(0.0003);
  expect(readOption("dtype", writeOption(null))).toBeUndefined();
  expect(readOption("target_modules", " , ")).toBeUndefined();
});
