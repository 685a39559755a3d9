import type { Notice } from "@/types/api";
import classes from "./PlanSummary.module.css";

/** Reasons or warnings as sentences. */
export function NoticeList({ notices }: { notices: Notice[] }) {
  return (
    <ul className={classes.notices}>
      {notices.map((notice, index) => (
        <li key={index}>
          {notice.message} {notice.hint && <span className={classes.hint}>{notice.hint}</span>}
        </li>
      ))}
    </ul>
  );
}
