import { Button, Group, NativeSelect } from "@mantine/core";
import { useState } from "react";
import { useExportRows } from "@/api/versions";
import { ErrorNotice } from "@/components/ErrorNotice";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset, RowsShape } from "@/types/api";

const CONVERSATIONS: readonly RowsShape[] = ["messages", "sharegpt", "alpaca", "prompt_completion", "question_answer"];

/** Shapes that may hold the rows; whether one holds every row whole is the server's to say. */
function shapesFor({ shape }: Dataset): readonly RowsShape[] {
  if (shape === "text" || shape === "preference" || shape === "unpaired") return [shape];
  return CONVERSATIONS;
}

/** The usable rows as JSON Lines in a shape that other tools read. */
export function TakeAway({ dataset }: { dataset: Dataset }) {
  const { t } = useMessages();
  const shapes = shapesFor(dataset);
  const [shape, setShape] = useState<RowsShape>(shapes[0] ?? "messages");
  const offer = useExportRows(dataset.dataset_id);
  return (
    <>
      <Group gap="xs" align="end" mt="md">
        <NativeSelect
          label={t.versions.shape}
          value={shape}
          onChange={(event) => {
            setShape(event.currentTarget.value as RowsShape);
            offer.reset();
          }}
          data={shapes.map((each) => ({ value: each, label: t.dataset.shapes[each] }))}
        />
        <Button
          variant="default"
          loading={offer.isPending}
          onClick={() => offer.mutate(shape, { onSuccess: (address) => window.location.assign(address) })}
        >
          {t.versions.download}
        </Button>
      </Group>
      {offer.error && <ErrorNotice error={offer.error} />}
    </>
  );
}
