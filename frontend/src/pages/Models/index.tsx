import { Button, Skeleton, Text, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { modelsQuery } from "@/api/models";
import { ErrorNotice } from "@/components/ErrorNotice";
import { FitBadge } from "@/components/FitBadge";
import { Icon } from "@/components/Icon";
import { PageHeader } from "@/components/PageHeader";
import { Stars } from "@/components/Stars";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";
import type { Model } from "@/types/api";
import classes from "./Models.module.css";

function ModelCard({ model }: { model: Model }) {
  const { t, format } = useMessages();
  const s = t.selector;
  return (
    <li className={classes.card}>
      <div className={classes.head}>
        <h2>{model.name}</h2>
        <FitBadge verdict={model.fit} />
      </div>
      <p className={classes.description}>{model.description}</p>
      <dl className={classes.facts}>
        <dt>{s.quality}</dt>
        <dd>
          <Stars rating={model.quality_rating} label={s.quality} />
        </dd>
        <dt>{s.speed}</dt>
        <dd>
          <Stars rating={model.speed_rating} label={s.speed} />
        </dd>
        <dt>{s.memory}</dt>
        <dd>{format.bytes(model.vram_required_gb * 2 ** 30)}</dd>
        <dt>{t.models.weights}</dt>
        <dd>
          {t.models.weightsState[model.weights]}
          {model.weights !== "ready" && model.download_bytes ? ` (${format.bytes(model.download_bytes)})` : ""}
        </dd>
        {model.licence && (
          <>
            <dt>{s.licence}</dt>
            <dd>{model.licence}</dd>
          </>
        )}
      </dl>
      <Button
        size="xs"
        variant="default"
        aria-label={t.models.useLabel(model.name)}
        renderRoot={(props) => <Link to="/training" search={{ model: model.id }} {...props} />}
      >
        {t.models.use}
      </Button>
    </li>
  );
}

/** The whole catalogue, with what each model means on this machine. */
export function Models() {
  const { t } = useMessages();
  const { data: models, error, refetch } = useQuery(modelsQuery);
  const [text, setText] = useState("");
  useDocumentTitle(t.models.title);
  const wanted = text.trim().toLowerCase();
  const shown = models?.filter(({ name, id }) => `${name} ${id}`.toLowerCase().includes(wanted));

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
