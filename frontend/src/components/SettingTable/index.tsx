import { useMessages } from "@/hooks/useMessages";
import type { Setting } from "@/types/api";
import classes from "./SettingTable.module.css";

/** Every setting as it is in force, and where it was set. Nothing here can be changed: a web page must not. */
export function SettingTable({ settings }: { settings: Setting[] }) {
  const { t } = useMessages();
  const shown = (value: Setting["value"]): string =>
    typeof value === "boolean" ? (value ? t.common.yes : t.common.no) : value === null || value === "" ? "–" : String(value);
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls has to be reachable by keyboard
    <div className={classes.scroll} tabIndex={0} role="region" aria-label={t.settings.title}>
      <table className={classes.table}>
        <thead>
          <tr>
            <th scope="col">{t.settings.variable}</th>
            <th scope="col">{t.settings.value}</th>
            <th scope="col">{t.settings.origin}</th>
          </tr>
        </thead>
        <tbody>
          {settings.map((setting) => (
            <tr key={setting.name}>
              <th scope="row">
                <code>{setting.variable}</code>
                <p lang="en">{setting.meaning}</p>
              </th>
              <td className={classes.value}>{shown(setting.value)}</td>
              <td>{setting.origin === "default" ? t.settings.byDefault : setting.origin}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
