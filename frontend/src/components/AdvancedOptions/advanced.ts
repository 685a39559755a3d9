/** Every hyper-parameter that an expert may set, in the order of the page; epochs and objective stand above, in plain sight. */
import { findLimitProblem, type OptionName } from "@/lib/limits";
import { readOption, type OptionText } from "@/lib/optionText";

export const ADVANCED_GROUPS = {
  learning: ["method", "beta", "learning_rate", "lr_scheduler", "warmup_ratio", "weight_decay", "max_grad_norm", "seed"],
  judging: ["keep_best", "early_stopping", "report_rows"],
  batches: ["batch_size", "gradient_accumulation_steps", "max_length", "long_rows"],
  adapter: ["lora_rank", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules", "continue_from"],
  memory: ["dtype", "quantization", "gradient_checkpointing"],
} as const satisfies Record<string, readonly OptionName[]>;

export type AdvancedGroup = keyof typeof ADVANCED_GROUPS;
export const ADVANCED = Object.values(ADVANCED_GROUPS).flat();

export const countOwn = (values: OptionText): number => ADVANCED.filter((name) => values[name]?.trim()).length;

/** Whether every text is empty or inside the contract's bounds. */
export const allValid = (values: OptionText): boolean =>
  (Object.entries(values) as [OptionName, string][]).every(([name, text]) => {
    const value = readOption(name, text);
    return value === undefined || findLimitProblem(name, value) === undefined;
  });
