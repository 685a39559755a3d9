import { Pill, type Tone } from "@/components/StatusPill";
import { useMessages } from "@/hooks/useMessages";
import type { Verdict } from "@/types/api";

export const FIT_TONES: Record<Verdict, Tone> = { fits: "good", tight: "warn", does_not_fit: "bad" };

/** Whether a model fits this machine's memory. */
export function FitBadge({ verdict }: { verdict: Verdict }) {
  const { t } = useMessages();
  return <Pill tone={FIT_TONES[verdict]}>{t.fit[verdict]}</Pill>;
}
