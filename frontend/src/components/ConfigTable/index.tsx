import { useMessages } from "@/hooks/useMessages";
import { showOption } from "@/lib/optionText";
import type { Plan } from "@/types/api";
import classes from "./ConfigTable.module.css";

const isKey = <T extends object>(object: T, key: string): key is Extract<keyof T, string> => key in object;

/** Every value of a job, who decided it, and why. */
export function ConfigTable({ resolved }: { resolved: Plan["resolved"] }) {
  const { t, format } = useMessages();
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls has to be reachable by keyboard
    <div className={classes.scroll} tabIndex={0} role="region" aria-label={t.job.configuration}>
      <table className={classes.table}>
        <thead>
          <tr>
            <th scope="col">{t.job.option}</th>
            <th scope="col">{t.job.value}</th>
            <th scope="col">{t.job.origin}</th>
            <th scope="col">{t.job.reason}</th>
          </tr>
        </thead>
        <tbody>
          {Object.entries(resolved).map(([name, { value, origin, reason }]) => (
            <tr key={name}>
              <th scope="row">{isKey(t.options, name) ? t.options[name] : name}</th>
              <td className={classes.value}>{showOption(value, t, format.small)}</td>
              <td>{t.origins[origin]}</td>
              <td className={classes.reason}>{reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
