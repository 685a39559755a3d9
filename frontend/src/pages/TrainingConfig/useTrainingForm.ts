import { useMemo, useState } from "react";
import { ADVANCED, type AdvancedText } from "@/components/AdvancedOptions/advanced";
import { findLimitProblem, readNumber } from "@/lib/limits";
import type { StartFinetuningRequest } from "@/types/api";

/** The specification's default; the server resolves the same for an absent value. */
const DEFAULT_EPOCHS = "5";

/** What a person typed, and the request that it makes; undefined while something is missing or out of range. */
export function useTrainingForm(datasetId: string | undefined, modelName: string | undefined) {
  const [epochs, setEpochs] = useState(DEFAULT_EPOCHS);
  const [advanced, setAdvanced] = useState<AdvancedText>({});

  const typed: [Parameters<typeof findLimitProblem>[0], number | undefined][] = [
    ["num_epochs", readNumber(epochs)],
    ...ADVANCED.map((name) => [name, readNumber(advanced[name] ?? "")] as [typeof name, number | undefined]),
  ];
  const valid = typed.every(([name, value]) => value === undefined || findLimitProblem(name, value) === undefined);
  const given = Object.fromEntries(typed.filter(([, value]) => value !== undefined));
  const body = datasetId && modelName && valid ? JSON.stringify({ dataset_id: datasetId, model_name: modelName, ...given }) : undefined;
  // The same object while nothing changes, so that a plan is asked for once per change.
  const request = useMemo(() => (body === undefined ? undefined : (JSON.parse(body) as StartFinetuningRequest)), [body]);

  return { epochs, setEpochs, advanced, setAdvanced, request };
}
