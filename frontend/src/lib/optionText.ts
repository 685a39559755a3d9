/** Hyper-parameters as the text of a form field: read, written, shown and judged by the contract's kind of each. */
import { boundsOf, findLimitProblem, readNumber, type OptionName, type OptionValue } from "@/lib/limits";
import type { Messages } from "@/locales/en";

/** What a person typed, by option; absent or empty = automatic. */
export type OptionText = Partial<Record<OptionName, string>>;

/** How an option is typed: picked from a few, listed with commas, or a number. */
export type OptionKind = "number" | "choice" | "switch" | "list" | "text";

export function kindOf(name: OptionName): OptionKind {
  const bounds = boundsOf(name);
  if (bounds.boolean) return "switch";
  if (bounds.enum) return "choice";
  if (bounds.list) return "list";
  return bounds.maxLength !== undefined ? "text" : "number";
}

/** The value that a text stands for; undefined when it is empty, which means automatic. */
export function readOption(name: OptionName, text: string): OptionValue | undefined {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  switch (kindOf(name)) {
    case "number":
      return readNumber(trimmed);
    case "switch":
      return trimmed === "true";
    case "list": {
      const items = trimmed.split(/[\s,;]+/).filter(Boolean);
      return items.length > 0 ? items : undefined;
    }
    default:
      return trimmed;
  }
}

/** The text of a value, such that reading it gives the value again. */
export function writeOption(value: unknown): string {
  if (value === null || value === undefined) return "";
  return Array.isArray(value) ? value.join(", ") : String(value);
}

const isKey = <T extends object>(object: T, key: string): key is Extract<keyof T, string> => key in object;

/** A value in the reader's words. */
export function showOption(value: unknown, t: Messages, small: (value: number) => string): string {
  if (value === null || value === undefined) return t.common.none;
  if (typeof value === "boolean") return value ? t.common.yes : t.common.no;
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : small(value);
  if (Array.isArray(value)) return value.join(", ");
  const text = String(value);
  return isKey(t.optionValues, text) ? t.optionValues[text] : text;
}

/** What is wrong with a text, in words; undefined when nothing is or the field is empty. */
export function explainOption(name: OptionName, text: string, t: Messages, small: (value: number) => string): string | undefined {
  const value = readOption(name, text);
  const problem = value === undefined ? undefined : findLimitProblem(name, value);
  if (!problem) return undefined;
  if (!("bound" in problem)) return t.limits[problem.kind];
  return t.limits[problem.kind](Number.isInteger(problem.bound) ? String(problem.bound) : small(problem.bound));
}
