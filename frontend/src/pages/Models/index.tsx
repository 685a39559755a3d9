import { Skeleton, Text, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { modelsQuery } from "@/api/models";
import { AddModel } from "@/components/AddModel";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";
import { ModelCard } from "./ModelCard";
import classes from "./Models.module.css";

/** The whole catalogue, with what each model means on this machine; any other model can be added. */
export function Models() {
  const { t } = useMessages();
  const { data: models, error, refetch } = useQuery(modelsQuery);
  const [text, setText] = useState("");
  useDocumentTitle(t.models.title);
  const wanted = text.trim().toLowerCase();
  // One's own models first: they were added to be used.
  const shown = models
    ?.filter(({ name, id }) => `${name} ${id}`.toLowerCase().includes(wanted))
    .sort((one, other) => Number(other.added) - Number(one.added));

  return (
    <>
      <PageHeader
        title={t.models.title}
        lead={t.models.lead}
        action={
          <TextInput
            aria-label={t.models.filter}
            placeholder={t.models.filter}
            leftSection={<Icon name="search" />}
            value={text}
            onChange={(event) => setText(event.currentTarget.value)}
          />
        }
      />
      <div className={classes.more}>
        <Panel>
          <AddModel />
        </Panel>
      </div>
      {error && !models && <ErrorNotice error={error} onRetry={() => void refetch()} />}
      {!models && !error && <Skeleton height={320} radius="lg" aria-label={t.app.loading} />}
      {shown?.length === 0 && <Text c="dimmed">{t.models.nothing}</Text>}
      <ul className={classes.grid}>
        {shown?.map((model) => (
          <ModelCard key={model.id} model={model} />
        ))}
      </ul>
    </>
  );
}
