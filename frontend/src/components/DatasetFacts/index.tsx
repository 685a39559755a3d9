import { Facts } from "@/components/Facts";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";

/** What the import found out, in numbers. */
export function DatasetFacts({ dataset }: { dataset: Dataset }) {
  const { t, format } = useMessages();
  const usable = format.number(dataset.rows);
  return (
    <Facts
      facts={[
        { label: t.dataset.shape, value: t.dataset.shapes[dataset.shape] },
        {
          label: t.dataset.usable,
          value: dataset.rows === dataset.rows_in_file ? usable : t.dataset.usableOf(usable, format.number(dataset.rows_in_file)),
        },
        { label: t.dataset.training, value: format.number(dataset.splits.train) },
        { label: t.dataset.heldout, value: format.number(dataset.splits.heldout) },
        { label: t.dataset.format, value: `${dataset.format.toUpperCase()}, ${dataset.encoding}` },
        { label: t.dataset.size, value: format.bytes(dataset.source_bytes) },
      ]}
    />
  );
}
