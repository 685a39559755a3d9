import { Button, Group } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useRemoveModel } from "@/api/models";
import { ConfirmButton } from "@/components/ConfirmButton";
import { ErrorNotice } from "@/components/ErrorNotice";
import { FitBadge } from "@/components/FitBadge";
import { Stars } from "@/components/Stars";
import { useMessages } from "@/hooks/useMessages";
import type { Model } from "@/types/api";
import classes from "./Models.module.css";

/** One model: what it is, what it takes, what can be done with it. */
export function ModelCard({ model }: { model: Model }) {
  const { t, format } = useMessages();
  const removal = useRemoveModel();
  const s = t.selector;
  return (
    <li className={classes.card} data-added={model.added || undefined}>
      <div className={classes.head}>
        <h2>{model.name}</h2>
        <FitBadge verdict={model.fit} />
      </div>
      {model.added && <p className={classes.added}>{t.models.added}</p>}
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
        {model.params && (
          <>
            <dt>{s.parameters}</dt>
            <dd>{format.compact(model.params)}</dd>
          </>
        )}
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
      <Group gap="xs">
        <Button
          size="xs"
          variant="default"
          aria-label={t.models.useLabel(model.name)}
          renderRoot={(props) => <Link to="/training" search={{ model: model.id }} {...props} />}
        >
          {t.models.use}
        </Button>
        {model.added && (
          <ConfirmButton
            size="xs"
            variant="subtle"
            aria-label={t.models.removeLabel(model.name)}
            question={t.models.removeAsk(model.name)}
            hint={t.models.removeHint}
            confirm={t.models.remove}
            onConfirm={() => removal.mutate(model.id)}
          >
            {t.models.remove}
          </ConfirmButton>
        )}
      </Group>
      {removal.error && <ErrorNotice error={removal.error} />}
    </li>
  );
}
