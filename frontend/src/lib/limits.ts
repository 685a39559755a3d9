/** Checks a value against the bounds of the server's contract (types/limits.gen.ts); writes no number of its own. */
import { startLimits } from "@/types/limits.gen";

export type OptionName = keyof typeof startLimits;
export type OptionValue = number | string | boolean | string[];

interface Bounds {
  integer?: boolean;
  boolean?: boolean;
  list?: boolean;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  itemMaxLength?: number;
  enum?: readonly string[];
}

export type LimitProblem =
  | { kind: "number" }
  | { kind: "integer" }
  | { kind: "choice" }
  | { kind: "least"; bound: number }
  | { kind: "most"; bound: number }
  | { kind: "above"; bound: number }
  | { kind: "below"; bound: number }
  | { kind: "letters"; bound: number }
  | { kind: "entries"; bound: number };

export const boundsOf = (name: OptionName): Bounds => startLimits[name] as Bounds;

function findNumberProblem(bounds: Bounds, value: number): LimitProblem | undefined {
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

/** What is wrong with `value` for the option `name`; undefined when nothing is. */
export function findLimitProblem(name: OptionName, value: OptionValue): LimitProblem | undefined {
  const bounds = boundsOf(name);
  if (typeof value === "number") return findNumberProblem(bounds, value);
  if (typeof value === "boolean") return undefined;
  if (Array.isArray(value)) {
    if (bounds.maxItems !== undefined && value.length > bounds.maxItems) return { kind: "entries", bound: bounds.maxItems };
    const longest = bounds.itemMaxLength ?? Infinity;
    return value.some((item) => item.length > longest) ? { kind: "letters", bound: longest } : undefined;
  }
  if (bounds.enum && !bounds.enum.includes(value)) return { kind: "choice" };
  return bounds.maxLength !== undefined && value.length > bounds.maxLength ? { kind: "letters", bound: bounds.maxLength } : undefined;
}

/** Reads what a person typed: "3e-4", "0,5" and "0.5" are numbers; empty means automatic. */
export function readNumber(text: string): number | undefined {
  const trimmed = text.trim().replace(",", ".");
  return trimmed === "" ? undefined : Number(trimmed);
}
