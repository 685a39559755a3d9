import { Callout } from "@/components/Callout";
import type { Tone } from "@/components/StatusPill";
import type { Comparison } from "@/types/api";

const TONES: Record<Comparison["verdict"], Tone> = { better: "good", worse: "bad", no_effect: "warn" };
const FORGOTTEN = "forgotten";

/** Whether training helped, whether that may be chance, why there may be no effect, and what it cost elsewhere. */
export function Verdict({ comparison }: { comparison: Comparison }) {
  return (
    <>
      <Callout tone={TONES[comparison.verdict]} title={comparison.summary}>
        {comparison.remarks
          .filter(({ code }) => code !== FORGOTTEN)
          .map((remark) => (
            <p key={remark.message}>{remark.message}</p>
          ))}
      </Callout>
      {comparison.remarks
        .filter(({ code }) => code === FORGOTTEN)
        .map((remark) => (
          <Callout key={remark.message} tone="warn" title={remark.message} />
        ))}
    </>
  );
}
