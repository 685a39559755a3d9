import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { diskQuery } from "@/api/disk";
import { ErrorNotice } from "@/components/ErrorNotice";
import { useMessages } from "@/hooks/useMessages";
import type { Disk } from "@/types/api";
import { KeptJobs, KeptModels } from "./Kept";
import classes from "./DiskMeter.module.css";

const PARTS = ["models", "datasets", "jobs", "checkpoints", "exports", "other"] as const satisfies readonly (keyof Disk["parts"])[];

/** What takes the disk of the data folder, and what of it can go without harm. */
export function DiskMeter() {
  const { t, format } = useMessages();
  const { data: disk, error, refetch } = useQuery(diskQuery);
  if (error && !disk) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!disk) return <Skeleton height={160} radius="md" aria-label={t.app.loading} />;
  const used = PARTS.reduce((sum, part) => sum + disk.parts[part], 0);
  const shown = PARTS.filter((part) => disk.parts[part] > 0);
  return (
    <div className={classes.meter} data-testid="disk">
      <p className={classes.sum}>{t.disk.sum(format.bytes(used), format.bytes(disk.free_bytes), format.bytes(disk.total_bytes))}</p>
      <div className={classes.bar} aria-hidden="true">
        {shown.map((part) => (
          <span key={part} data-part={part} style={{ flexGrow: disk.parts[part] / used }} />
        ))}
      </div>
      <ul className={classes.legend}>
        {shown.map((part) => (
          <li key={part}>
            <span className={classes.dot} data-part={part} aria-hidden="true" />
            {t.disk.parts[part]} <strong>{format.bytes(disk.parts[part])}</strong>
          </li>
        ))}
      </ul>
      <KeptModels models={disk.models} />
      <KeptJobs jobs={disk.jobs} />
    </div>
  );
}
