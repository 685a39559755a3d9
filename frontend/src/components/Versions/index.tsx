import { Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { versionsQuery } from "@/api/versions";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Panel } from "@/components/Panel";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";
import { TakeAway } from "./TakeAway";
import classes from "./Versions.module.css";

/** Every version of the same data with what was changed, and the rows of this one as a file. */
export function Versions({ dataset }: { dataset: Dataset }) {
  const { t, format } = useMessages();
  const { data, error, refetch } = useQuery(versionsQuery(dataset.dataset_id));
  const versions = data ?? [dataset];
  return (
    <Panel title={t.versions.title} hint={t.versions.hint}>
      {error && !data && <ErrorNotice error={error} onRetry={() => void refetch()} />}
      <ol className={classes.list} data-testid="versions">
        {versions.map((version) => (
          <li key={version.dataset_id}>
            {version.dataset_id === dataset.dataset_id ? (
              <strong aria-current="true">{t.versions.number(version.version)}</strong>
            ) : (
              <Link to="/datasets/$datasetId" params={{ datasetId: version.dataset_id }} className={classes.link}>
                {t.versions.number(version.version)}
              </Link>
            )}
            <div>
              {version.changes.length > 0 ? version.changes.map(({ message }) => message).join(" · ") : t.versions.first}
              <Text size="sm" c="dimmed">
                {t.dataset.rows(format.number(version.rows), version.rows)} · {format.dateTime(version.created_at)}
              </Text>
            </div>
          </li>
        ))}
      </ol>
      <TakeAway dataset={dataset} />
    </Panel>
  );
}
