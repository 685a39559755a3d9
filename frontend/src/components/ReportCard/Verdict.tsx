import { Callout } from "@/components/Callout";
import type { Tone } from "@/components/StatusPill";
import type { Comparison } from "@/types/api";

const TONES: Record<Comparison["verdict"], Tone> = { better: "good", worse: "bad", no_effect: "warn" };

/** Whether training helped, whether that may be chance, and why there may be no effect. */
export function Verdict({ comparison }: { comparison: Comparison }) {
  return (
    <Callout tone={TONES[comparison.verdict]} title={comparison.summary}>
      {comparison.remarks.map((remark) => (
        <p key={remark.message}>{remark.message}</p>
      ))}
    </Callout>
  );
}
