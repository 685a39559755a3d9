import { useMessages } from "@/hooks/useMessages";
import type { MemoryParts, Plan } from "@/types/api";
import classes from "./MemoryBar.module.css";

/** From what stays to what moves; one colour each. */
const ORDER: readonly (keyof MemoryParts)[] = [
  "weights",
  "context",
  "adapter",
  "optimizer",
  "gradients",
  "activations",
  "logits",
  "workspace",
];
/** Parts below this share of the peak are drawn but not listed. */
const LISTED_SHARE = 0.01;

/** The expected peak, part by part, against the memory that is there. */
export function MemoryBar({ plan }: { plan: Plan }) {
  const { t, format } = useMessages();
  const scale = Math.max(plan.available_bytes, plan.peak_bytes_upper, plan.peak_bytes);
  const width = (bytes: number): string => `${((bytes / scale) * 100).toFixed(2)}%`;
  const listed = ORDER.filter((part) => plan.parts[part] >= plan.peak_bytes * LISTED_SHARE);

  return (
    <div>
      <div
        className={classes.bar}
        role="img"
        aria-label={t.plan.barLabel(format.bytes(plan.peak_bytes), format.bytes(plan.available_bytes))}
        data-verdict={plan.verdict}
      >
        <span className={classes.room} style={{ width: width(plan.available_bytes) }} />
        <span className={classes.margin} style={{ width: width(plan.peak_bytes_upper) }} />
        <span className={classes.parts}>
          {ORDER.map((part) => (
            <span key={part} data-part={part} style={{ width: width(plan.parts[part]) }} />
          ))}
        </span>
        {plan.peak_bytes_upper > plan.available_bytes && <span className={classes.edge} style={{ left: width(plan.available_bytes) }} />}
      </div>
      <ul className={classes.legend}>
        {listed.map((part) => (
          <li key={part}>
            <span className={classes.swatch} data-part={part} aria-hidden="true" />
            {t.plan.parts[part]} <span className="numbers">{format.bytes(plan.parts[part])}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
