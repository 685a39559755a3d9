import { Select, Skeleton, Stack } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { modelsQuery } from "@/api/models";
import { hardwareQuery } from "@/api/system";
import { Callout } from "@/components/Callout";
import { ErrorNotice } from "@/components/ErrorNotice";
import { FitBadge } from "@/components/FitBadge";
import { ModelFacts } from "@/components/ModelFacts";
import { useMessages } from "@/hooks/useMessages";
import type { Model, Recommendation, RecommendedModel } from "@/types/api";
import classes from "./ModelSelector.module.css";

const WEIGHTS: readonly Model["weights"][] = ["ready", "downloadable", "unreachable"];

interface ModelSelectorProps {
  /** Id of the chosen model. */
  value: string | null;
  onChange: (id: string) => void;
  /** What each model would take for the chosen data; until it is there, the list shows what each needs by itself. */
  recommendation?: Recommendation | undefined;
}

/** One line of the drop-down: the name, what it takes, whether that fits here. */
function Choice({ model, planned }: { model: Model; planned: RecommendedModel | undefined }) {
  const { t, format } = useMessages();
  return (
    <span className={classes.choice}>
      <span className={classes.name}>
        {model.name}
        {planned?.recommended && (
          <span className={classes.mark}>{planned.rank === 1 ? t.map.standings.first : t.map.recommended}</span>
        )}
      </span>
      <span className={classes.memory}>
        {planned
          ? `${format.estimate(planned.seconds_p50)} · ${format.bytes(planned.peak_bytes)}`
          : format.bytes(model.vram_required_gb * 2 ** 30)}
      </span>
      <FitBadge verdict={planned?.verdict ?? model.fit} />
    </span>
  );
}

/** Loads the catalogue, lets a person choose, and shows what the choice means on this machine. */
export function ModelSelector({ value, onChange, recommendation }: ModelSelectorProps) {
  const { t, format } = useMessages();
  const { data: models, error, refetch } = useQuery(modelsQuery);
  const { data: hardware } = useQuery(hardwareQuery);

  if (error && !models) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!models) return <Skeleton height={240} radius="md" aria-label={t.app.loading} />;

  const byId = new Map(models.map((model) => [model.id, model]));
  const chosen = value === null ? undefined : byId.get(value);
  const groups = WEIGHTS.map((weights) => ({
    group: t.selector.groups[weights],
    items: models.filter((model) => model.weights === weights).map((model) => ({ value: model.id, label: model.name })),
  })).filter(({ items }) => items.length > 0);
  const planned = new Map(recommendation?.models.map((model) => [model.id, model]));
  const verdict = chosen && (planned.get(chosen.id)?.verdict ?? chosen.fit);
  const memory = hardware?.devices[0]?.memory_total_bytes;

  return (
    <Stack gap="sm">
      <Select
        label={t.selector.label}
        placeholder={t.selector.placeholder}
        data={groups}
        value={value}
        onChange={(id) => id !== null && onChange(id)}
        allowDeselect={false}
        searchable
        nothingFoundMessage={t.selector.nothing}
        maxDropdownHeight={380}
        checkIconPosition="right"
        size="md"
        renderOption={({ option }) => {
          const model = byId.get(option.value);
          return model ? <Choice model={model} planned={planned.get(model.id)} /> : option.label;
        }}
      />
      {chosen?.preselected && chosen.preselected_reason && (
        <p className={classes.reason}>
          <strong>{t.selector.why}</strong> {chosen.preselected_reason}
        </p>
      )}
      {chosen && verdict === "does_not_fit" && memory !== undefined && (
        <Callout tone="warn" role="status" title={t.fitLong.does_not_fit}>
          {t.selector.tooBig(format.bytes(planned.get(chosen.id)?.peak_bytes ?? chosen.peak_bytes), format.bytes(memory))}
        </Callout>
      )}
      {chosen?.weights === "unreachable" && (
        <Callout tone="warn" role="status" title={t.selector.groups.unreachable}>
          {t.selector.unreachable}
        </Callout>
      )}
      {chosen && <ModelFacts model={chosen} verdict={verdict ?? chosen.fit} />}
    </Stack>
  );
}
