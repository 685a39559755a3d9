import { useMessages } from "@/hooks/useMessages";
import classes from "./Stars.module.css";

const STAR = "M12 2.6l2.9 6 6.5.9-4.7 4.6 1.1 6.5L12 17.5l-5.8 3.1 1.1-6.5L2.6 9.5l6.5-.9Z";
const MOST = 5;

/** A rating of 1 to 5; screen readers hear "Quality: 3 out of 5". */
export function Stars({ rating, label }: { rating: number; label: string }) {
  const { t } = useMessages();
  return (
    <span className={classes.stars} role="img" aria-label={t.common.labelled(label, t.selector.stars(rating))}>
      {Array.from({ length: MOST }, (_, index) => (
        <svg key={index} viewBox="0 0 24 24" width="16" height="16" data-filled={index < rating || undefined} aria-hidden="true">
          <path d={STAR} />
        </svg>
      ))}
    </span>
  );
}
