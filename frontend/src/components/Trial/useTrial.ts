import { useEffect, useRef, useState } from "react";
import { streamTrial } from "@/api/trials";
import type { TrialStep } from "@/types/api";

export interface TrialState {
  running: boolean;
  steps: TrialStep[];
  error: Error | undefined;
  start: () => void;
  stop: () => void;
}

const NOTHING = { running: false, steps: [] as TrialStep[], error: undefined as Error | undefined };

/** One try of a model on a data set; forgotten when either changes. */
export function useTrial(datasetId: string, modelName: string): TrialState {
  const [state, setState] = useState(NOTHING);
  const control = useRef<AbortController | undefined>(undefined);
  useEffect(() => {
    setState(NOTHING);
    return () => control.current?.abort();
  }, [datasetId, modelName]);

  const run = async (signal: AbortSignal): Promise<void> => {
    try {
      for await (const step of streamTrial(datasetId, modelName, signal)) {
        setState((before) => ({ ...before, steps: [...before.steps, step] }));
      }
      setState((before) => ({ ...before, running: false }));
    } catch (error) {
      if (!signal.aborted) setState((before) => ({ ...before, running: false, error: error as Error }));
    }
  };
  return {
    ...state,
    start: () => {
      control.current?.abort();
      control.current = new AbortController();
      setState({ ...NOTHING, running: true });
      void run(control.current.signal);
    },
    stop: () => {
      control.current?.abort();
      setState((before) => ({ ...before, running: false }));
    },
  };
}
