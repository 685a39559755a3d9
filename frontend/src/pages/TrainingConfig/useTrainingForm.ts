import { useState } from "react";
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
  const request: StartFinetuningRequest | undefined =
    datasetId && modelName && valid ? { dataset_id: datasetId, model_name: modelName, ...given } : undefined;

  return { epochs, setEpochs, advanced, setAdvanced, request };
}
