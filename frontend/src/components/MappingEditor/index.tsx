import { Button, Group, NativeSelect, Stack } from "@mantine/core";
import { useState, type FormEvent } from "react";
import { useRemapDataset } from "@/api/datasets";
import { Callout } from "@/components/Callout";
import { ErrorNotice } from "@/components/ErrorNotice";
import { useMessages } from "@/hooks/useMessages";
import type { ColumnMapping, Dataset } from "@/types/api";
import { MappingPreview } from "./MappingPreview";
import classes from "./MappingEditor.module.css";

type Shape = ColumnMapping["shape"];
type Part = Exclude<keyof ColumnMapping, "shape">;

/** Which parts a shape has, as the import finds them; what is missing here would be lost when a mapping is applied. */
const PARTS: Record<Shape, readonly Part[]> = {
  alpaca: ["instruction", "input", "output", "system", "history", "split", "verdict"],
  prompt_completion: ["instruction", "input", "output", "system", "history", "split", "verdict"],
  question_answer: ["instruction", "input", "output", "system", "history", "split", "verdict"],
  messages: ["messages", "system", "split", "verdict"],
  sharegpt: ["messages", "system", "split", "verdict"],
  text: ["text", "split", "verdict"],
  preference: ["instruction", "input", "messages", "output", "rejected", "system", "split", "verdict"],
  unpaired: ["instruction", "input", "messages", "output", "label", "system", "split", "verdict"],
  instances: ["instruction", "instances", "system", "split", "verdict"],
  classification: ["instruction", "label", "split", "verdict"],
};
const SHAPES = Object.keys(PARTS) as Shape[];

interface MappingEditorProps {
  dataset: Dataset;
  /** Data that a job has used stay as they are: another mapping makes a new version of them. */
  onVersion: (version: Dataset) => void;
}

/** Shows which column plays which part, and lets a person correct it. */
export function MappingEditor({ dataset, onVersion }: MappingEditorProps) {
  const { t } = useMessages();
  const remap = useRemapDataset(dataset.dataset_id);
  const [draft, setDraft] = useState<ColumnMapping>(dataset.mapping);
  const parts = PARTS[draft.shape];
  const changed =
    draft.shape !== dataset.mapping.shape || parts.some((part) => (draft[part] ?? null) !== (dataset.mapping[part] ?? null));
  const mapping: ColumnMapping = { shape: draft.shape };
  for (const part of parts) mapping[part] = draft[part] ?? null;

  const apply = (event: FormEvent): void => {
    event.preventDefault();
    remap.mutate(mapping, { onSuccess: (mapped) => mapped.dataset_id !== dataset.dataset_id && onVersion(mapped) });
  };

  return (
    <form onSubmit={apply}>
      <Stack gap="md">
        {!dataset.confirmed && (
          <Callout tone="warn" role="status">
            {t.mapping.unsure}
          </Callout>
        )}
        <div className={classes.grid}>
          <NativeSelect
            label={t.mapping.shape}
            value={draft.shape}
            onChange={(event) => setDraft({ ...draft, shape: event.currentTarget.value as Shape })}
            data={SHAPES.map((shape) => ({ value: shape, label: t.dataset.shapes[shape] }))}
          />
          {parts.map((part) => (
            <NativeSelect
              key={part}
              label={t.mapping[part]}
              value={draft[part] ?? ""}
              onChange={(event) => setDraft({ ...draft, [part]: event.currentTarget.value || null })}
              data={[{ value: "", label: t.mapping.unused }, ...dataset.columns.map((column) => ({ value: column, label: column }))]}
            />
          ))}
        </div>
        {(changed || !dataset.confirmed) && (
          <>
            <MappingPreview datasetId={dataset.dataset_id} mapping={mapping} />
            <Group gap="xs">
              <Button type="submit" size="sm" loading={remap.isPending}>
                {changed ? t.mapping.apply : t.mapping.confirm}
              </Button>
              {changed && (
                <Button size="sm" variant="default" onClick={() => setDraft(dataset.mapping)}>
                  {t.common.cancel}
                </Button>
              )}
            </Group>
          </>
        )}
        {remap.error && <ErrorNotice error={remap.error} />}
      </Stack>
    </form>
  );
}
