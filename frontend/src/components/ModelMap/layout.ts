/** Where each model stands on the map of time and quality: scales, ticks, circles and free places for the names. */
import type { RecommendedModel } from "@/types/api";

export interface Frame {
  width: number;
  height: number;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

export interface Spot {
  model: RecommendedModel;
  x: number;
  y: number;
  radius: number;
  /** Where the name is written; undefined when there is no room for it. */
  name: { x: number; y: number; anchor: "start" | "middle" | "end" } | undefined;
}

export interface Tick {
  at: number;
  value: number;
}

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Round durations in seconds: 10 s to 100 days. */
const ROUND_SECONDS = [
  10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18_000, 36_000, 86_400, 172_800, 432_000, 864_000, 2_592_000, 8_640_000,
];
const SMALLEST_RADIUS = 6;
const LARGEST_RADIUS = 19;
const LETTER = 6.6;
const LINE = 14;
const TICK_ROOM = 62;

/** Pixels for a value; times are on a logarithmic scale, as models differ by factors of a hundred. */
export function scales(models: readonly RecommendedModel[], frame: Frame) {
  const seconds = models.map((model) => model.seconds_p50);
  const [low, high] = padded(seconds.map((value) => Math.log(Math.max(1, value))), 0.09, 0.35);
  const qualities = models.map((model) => model.quality);
  const [worst, best] = padded(qualities, 0.12, 1);
  const inner = frame.width - frame.left - frame.right;
  const tall = frame.height - frame.top - frame.bottom;
  return {
    x: (value: number) => frame.left + ((Math.log(Math.max(1, value)) - low) / (high - low)) * inner,
    y: (value: number) => frame.top + ((best - value) / (best - worst)) * tall,
    seconds: [Math.exp(low), Math.exp(high)] as const,
    quality: [worst, best] as const,
  };
}

/** The range of the values with a share of it added at both ends, and at least `least`. */
function padded(values: readonly number[], share: number, least: number): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max((high - low) * share, least);
  return [low - room, high + room];
}

export function timeTicks(models: readonly RecommendedModel[], frame: Frame): Tick[] {
  const { x, seconds } = scales(models, frame);
  const inside = ROUND_SECONDS.filter((value) => value >= seconds[0] && value <= seconds[1]).map((value) => ({ value, at: x(value) }));
  const kept: Tick[] = [];
  for (const tick of inside) {
    const last = kept.at(-1);
    if (last === undefined || tick.at - last.at >= TICK_ROOM) kept.push(tick);
  }
  return kept;
}

export function qualityTicks(models: readonly RecommendedModel[], frame: Frame): Tick[] {
  const { y, quality } = scales(models, frame);
  const [low, high] = quality;
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw) ?? raw;
  const ticks: Tick[] = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) ticks.push({ value, at: y(value) });
  return ticks;
}

const overlaps = (one: Box, other: Box): boolean =>
  one.left < other.right && one.right > other.left && one.top < other.bottom && one.bottom > other.top;

const circleBox = ({ x, y, radius }: { x: number; y: number; radius: number }): Box => ({
  left: x - radius,
  right: x + radius,
  top: y - radius,
  bottom: y + radius,
});

/** Circles whose area is the memory, and names beside them where no circle and no other name stands. */
export function placeModels(models: readonly RecommendedModel[], chosen: string | undefined, frame: Frame): Spot[] {
  const { x, y } = scales(models, frame);
  const most = Math.max(...models.map((model) => model.peak_bytes));
  const spots: Spot[] = models.map((model) => ({
    model,
    x: x(model.seconds_p50),
    y: y(model.quality),
    radius: SMALLEST_RADIUS + (LARGEST_RADIUS - SMALLEST_RADIUS) * Math.sqrt(model.peak_bytes / most),
    name: undefined,
  }));
  const taken = spots.map(circleBox);
  const weight = ({ model }: Spot): number =>
    (model.id === chosen ? 4 : 0) + (model.rank === 1 ? 2 : 0) + (model.recommended && !model.dominated ? 1 : 0);
  for (const spot of [...spots].sort((one, other) => weight(other) - weight(one))) {
    const long = spot.model.name.length * LETTER;
    const beside = spot.radius + 5;
    const places = [
      { x: spot.x + beside, y: spot.y, anchor: "start" as const, left: spot.x + beside },
      { x: spot.x - beside, y: spot.y, anchor: "end" as const, left: spot.x - beside - long },
      { x: spot.x, y: spot.y - beside - 5, anchor: "middle" as const, left: spot.x - long / 2 },
      { x: spot.x, y: spot.y + beside + 7, anchor: "middle" as const, left: spot.x - long / 2 },
    ];
    for (const { left, ...place } of places) {
      const box = { left, right: left + long, top: place.y - LINE / 2, bottom: place.y + LINE / 2 };
      const inside = box.left >= frame.left && box.right <= frame.width - 2 && box.top >= 0 && box.bottom <= frame.height - frame.bottom;
      const own = circleBox(spot);
      if (inside && !taken.some((other) => overlaps(box, other) && !(other.left === own.left && other.top === own.top))) {
        spot.name = place;
        taken.push(box);
        break;
      }
    }
  }
  return spots;
}

/** The best of each time: no model is both faster and better than one of these. */
export const frontier = (spots: readonly Spot[]): Spot[] =>
  spots.filter(({ model }) => !model.dominated && model.verdict === "fits").sort((one, other) => one.x - other.x);
