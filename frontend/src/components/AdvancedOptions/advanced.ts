import { findLimitProblem, readNumber, type OptionName } from "@/lib/limits";
import type { Messages } from "@/locales/en";

/** The numbers that an expert changes most; each is left to the machine while its field is empty. */
export const ADVANCED = [
  "learning_rate",
  "batch_size",
  "max_length",
  "lora_rank",
  "lora_alpha",
  "gradient_accumulation_steps",
  "seed",
] as const satisfies readonly OptionName[];

export type AdvancedName = (typeof ADVANCED)[number];
export type AdvancedText = Partial<Record<AdvancedName, string>>;

/** What is wrong with a typed number, in words; undefined when nothing is or the field is empty. */
export function explainProblem(name: OptionName, text: string, t: Messages, format: (value: number) => string): string | undefined {
  const value = readNumber(text);
  const problem = value === undefined ? undefined : findLimitProblem(name, value);
  if (!problem) return undefined;
  return "bound" in problem ? t.limits[problem.kind](format(problem.bound)) : t.limits[problem.kind];
}
