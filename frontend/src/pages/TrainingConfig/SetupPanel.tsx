import { Select, Skeleton, Stack, TextInput } from "@mantine/core";
import { ExportTicks } from "@/components/ExportTicks";
import { ModelSelector } from "@/components/ModelSelector";
import { ObjectiveField } from "@/components/ObjectiveField";
import { Panel } from "@/components/Panel";
import { PresetPicker } from "@/components/PresetPicker";
import { useMessages } from "@/hooks/useMessages";
import { explainOption } from "@/lib/optionText";
import type { Dataset, Recommendation } from "@/types/api";
import { DEFAULT_EPOCHS, type TrainingForm } from "./useTrainingForm";

interface SetupPanelProps {
  datasets: Dataset[] | undefined;
  dataset: string | undefined;
  model: string | undefined;
  form: TrainingForm;
  recommendation: Recommendation | undefined;
  onDataset: (id: string) => void;
  onModel: (id: string) => void;
}

/** The few choices that are everybody's: data, aim, model, epochs. */
export function SetupPanel({ datasets, dataset, model, form, recommendation, onDataset, onModel }: SetupPanelProps) {
  const { t, format } = useMessages();
  const epochs = form.values.num_epochs ?? "";
  return (
    <Panel>
      <Stack gap="lg">
        {datasets ? (
          <Select
            label={t.training.dataset}
            placeholder={t.training.chooseDataset}
            size="md"
            searchable
            allowDeselect={false}
            checkIconPosition="right"
            nothingFoundMessage={t.common.none}
            value={dataset ?? null}
            onChange={(id) => id !== null && onDataset(id)}
            data={datasets.map(({ dataset_id, name, rows }) => ({
              value: dataset_id,
              label: `${name} (${t.dataset.rows(format.number(rows), rows)})`,
            }))}
          />
        ) : (
          <Skeleton height={64} radius="md" />
        )}
        <ObjectiveField value={form.objective} onChange={form.setObjective} />
        <ModelSelector value={model ?? null} onChange={onModel} recommendation={recommendation} />
        {dataset && model && <PresetPicker key={`${dataset} ${model}`} datasetId={dataset} model={model} onApply={form.apply} />}
        <TextInput
          label={t.training.epochs}
          description={`${t.training.epochsHint} ${t.training.automaticIs(DEFAULT_EPOCHS)}.`}
          size="md"
          maw={340}
          inputMode="numeric"
          autoComplete="off"
          placeholder={DEFAULT_EPOCHS}
          value={epochs}
          error={explainOption("num_epochs", epochs, t, format.small)}
          onChange={(event) => form.setValues({ ...form.values, num_epochs: event.currentTarget.value })}
        />
        <ExportTicks
          model={model}
          value={form.values.exports ? form.values.exports.split(", ") : []}
          onChange={(formats) => form.setValues({ ...form.values, exports: formats.join(", ") })}
        />
      </Stack>
    </Panel>
  );
}
