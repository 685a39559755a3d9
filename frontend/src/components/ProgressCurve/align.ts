import type { AlignedData } from "uplot";
import { smoothed, type Series } from "@/lib/series";

/** Weight of the past in the smoothed line. */
const SMOOTHING = 0.8;

/** Training, smoothed training and held-out loss over one axis of steps; a step without a value is a gap. */
export function align(training: Series, heldout: Series): AlignedData {
  const steps = [...new Set([...training.steps, ...heldout.steps])].sort((a, b) => a - b);
  const on = (series: Series, values: number[]): (number | null)[] => {
    const byStep = new Map(series.steps.map((step, index) => [step, values[index] ?? null]));
    return steps.map((step) => byStep.get(step) ?? null);
  };
  return [steps, on(training, training.values), on(training, smoothed(training.values, SMOOTHING)), on(heldout, heldout.values)];
}
