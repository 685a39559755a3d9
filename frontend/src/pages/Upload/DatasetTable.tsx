import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";
import classes from "./Upload.module.css";

/** Data sets that are already here, each ready to be trained on. */
export function DatasetTable({ datasets }: { datasets: Dataset[] }) {
  const { t, format } = useMessages();
  return (
    <ul className={classes.datasets}>
      {datasets.map((dataset) => (
        <li key={dataset.dataset_id}>
          <div>
            <Link to="/datasets/$datasetId" params={{ datasetId: dataset.dataset_id }} className={classes.name}>
              {dataset.name}
            </Link>
            <p>
              {dataset.version > 1 && `${t.versions.number(dataset.version)} · `}
              {t.dataset.rows(format.number(dataset.rows), dataset.rows)} · {t.dataset.shapes[dataset.shape]} ·{" "}
              {format.dateTime(dataset.created_at)}
            </p>
          </div>
          <Button
            size="xs"
            variant="default"
            rightSection={<Icon name="arrow" size={15} />}
            aria-label={`${t.upload.configure}: ${dataset.name}`}
            renderRoot={(props) => <Link to="/training" search={{ dataset: dataset.dataset_id }} {...props} />}
          >
            {t.upload.configure}
          </Button>
        </li>
      ))}
    </ul>
  );
}
