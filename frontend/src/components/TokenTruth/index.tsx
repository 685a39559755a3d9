import { NativeSelect, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Reading } from "@/api/datasets";
import { modelsQuery } from "@/api/models";
import { Panel } from "@/components/Panel";
import { useMessages } from "@/hooks/useMessages";
import type { Dataset } from "@/types/api";
import { RowTokens } from "./RowTokens";
import { TokenSummary } from "./TokenSummary";

interface TokenTruthProps {
  dataset: Dataset;
  /** Fixed where a model is chosen elsewhere on the page; otherwise a person picks one here. */
  reading?: Reading | undefined;
}

/** What a model will see of the data: how long the rows are, whether they teach what they should, one row token by token. */
export function TokenTruth({ dataset, reading }: TokenTruthProps) {
  const { t } = useMessages();
  const models = useQuery({ ...modelsQuery, enabled: reading === undefined });
  const [picked, setPicked] = useState<string>();
  const [row, setRow] = useState(1);
  const ready = models.data?.filter(({ weights }) => weights === "ready") ?? [];
  const model = picked ?? ready.find(({ preselected }) => preselected)?.id ?? ready[0]?.id;
  const read = reading ?? (model === undefined ? undefined : { model });

  return (
    <Panel title={t.tokens.title} hint={t.tokens.hint}>
      <Stack gap="lg">
        {!reading && ready.length > 0 && (
          <NativeSelect
            label={t.tokens.model}
            maw={340}
            value={model ?? ""}
            onChange={(event) => setPicked(event.currentTarget.value)}
            data={ready.map(({ id, name }) => ({ value: id, label: name }))}
          />
        )}
        {!read && models.data && <Text c="dimmed">{t.tokens.notReady}</Text>}
        {read && (
          <>
            <TokenSummary dataset={dataset} reading={read} onRow={setRow} />
            <RowTokens dataset={dataset} reading={read} row={row} onRow={setRow} />
          </>
        )}
      </Stack>
    </Panel>
  );
}
