/** Checks a value against the bounds of the server's contract (types/limits.gen.ts); writes no number of its own. */
import { startLimits } from "@/types/limits.gen";

export type OptionName = keyof typeof startLimits;

interface Bounds {
  integer?: boolean;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

export type LimitProblem =
  | { kind: "number" }
  | { kind: "integer" }
  | { kind: "least"; bound: number }
  | { kind: "most"; bound: number }
  | { kind: "above"; bound: number }
  | { kind: "below"; bound: number };

export const boundsOf = (name: OptionName): Bounds => startLimits[name] as Bounds;

/** What is wrong with `value` for the option `name`; undefined when nothing is. */
export function findLimitProblem(name: OptionName, value: number): LimitProblem | undefined {
  const bounds = boundsOf(name);
  if (!Number.isFinite(value)) return { kind: "number" };
  if (bounds.integer && !Number.isInteger(value)) return { kind: "integer" };
  if (bounds.minimum !== undefined && value < bounds.minimum) return { kind: "least", bound: bounds.minimum };
  if (bounds.maximum !== undefined && value > bounds.maximum) return { kind: "most", bound: bounds.maximum };
  if (bounds.exclusiveMinimum !== undefined && value <= bounds.exclusiveMinimum) {
    return { kind: "above", bound: bounds.exclusiveMinimum };
  }
  if (bounds.exclusiveMaximum !== undefined && value >= bounds.exclusiveMaximum) {
    return { kind: "below", bound: bounds.exclusiveMaximum };
  }
  return undefined;
}

/** Reads what a person typed: "3e-4", "0,5" and "0.5" are numbers; empty means automatic. */
export function readNumber(text: string): number | undefined {
  const trimmed = text.trim().replace(",", ".");
  return trimmed === "" ? undefined : Number(trimmed);
}
