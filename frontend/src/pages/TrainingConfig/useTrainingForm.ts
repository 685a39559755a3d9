import { useMemo, useState } from "react";
import { ADVANCED, allValid } from "@/components/AdvancedOptions/advanced";
import type { OptionName } from "@/lib/limits";
import { readOption, writeOption, type OptionText } from "@/lib/optionText";
import type { Objective, StartFinetuningRequest } from "@/types/api";

/** The specification's default; the server resolves the same for an absent value. */
export const DEFAULT_EPOCHS = "5";

export interface TrainingForm {
  values: OptionText;
  setValues: (values: OptionText) => void;
  objective: Objective | undefined;
  setObjective: (objective: Objective | undefined) => void;
  /** Takes over the values of another plan; null means back to automatic. */
  apply: (changes: Record<string, unknown>) => void;
  /** Forgets what was set in advanced mode. */
  reset: () => void;
  /** The request that all this makes; undefined while something is missing or out of range. */
  request: StartFinetuningRequest | undefined;
}

/** What a person set, as text, and the request that it makes. */
export function useTrainingForm(datasetId: string | undefined, modelName: string | undefined): TrainingForm {
  const [values, setValues] = useState<OptionText>({ num_epochs: DEFAULT_EPOCHS });
  const given = Object.fromEntries(
    (Object.entries(values) as [OptionName, string][])
      .map(([name, text]) => [name, readOption(name, text)] as const)
      .filter(([, value]) => value !== undefined),
  );
  const complete = datasetId && modelName && allValid(values);
  const body = complete ? JSON.stringify({ dataset_id: datasetId, model_name: modelName, ...given }) : undefined;
  // The same object while nothing changes, so that a plan is asked for once per change.
  const request = useMemo(() => (body === undefined ? undefined : (JSON.parse(body) as StartFinetuningRequest)), [body]);

  return {
    values,
    setValues,
    objective: given.objective as Objective | undefined,
    setObjective: (objective) => setValues({ ...values, objective: objective ?? "" }),
    apply: (changes) =>
      setValues({ ...values, ...Object.fromEntries(Object.entries(changes).map(([name, value]) => [name, writeOption(value)])) }),
    reset: () => setValues({ ...values, ...Object.fromEntries(ADVANCED.map((name) => [name, ""])) }),
    request,
  };
}
