import { Button, Collapse, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { presetsQuery } from "@/api/plans";
import { useMessages } from "@/hooks/useMessages";
import { showOption } from "@/lib/optionText";
import type { Messages } from "@/locales/en";
import type { Preset } from "@/types/api";
import classes from "./PresetPicker.module.css";

interface PresetPickerProps {
  datasetId: string;
  model: string;
  onApply: (values: Record<string, unknown>) => void;
}

/** Values by type of task, each with its reason. Nothing happens until one is taken over. */
export function PresetPicker({ datasetId, model, onApply }: PresetPickerProps) {
  const { t } = useMessages();
  const { data } = useQuery(presetsQuery(datasetId, model));
  const [opened, setOpened] = useState<string>();
  if (!data) return null;
  const shown = data.find(({ task }) => task === opened);
  return (
    <div>
      <p className={classes.label}>{t.presets.label}</p>
      <ul className={classes.list}>
        {data.map(({ task, name, usual, suits }) => (
          <li key={task}>
            <Button
              size="sm"
              variant={task === opened ? "light" : "default"}
              aria-expanded={task === opened}
              aria-controls="preset"
              data-unfit={!suits || undefined}
              onClick={() => setOpened(task === opened ? undefined : task)}
            >
              {name}
              {usual && <span className={classes.usual}>{t.presets.usual}</span>}
            </Button>
          </li>
        ))}
      </ul>
      <Text size="sm" c="dimmed" mt={6}>
        {t.presets.hint}
      </Text>
      <Collapse expanded={shown !== undefined} id="preset">
        {shown && <PresetDetail preset={shown} onApply={onApply} />}
      </Collapse>
    </div>
  );
}

function PresetDetail({ preset, onApply }: { preset: Preset; onApply: (values: Record<string, unknown>) => void }) {
  const { t, format } = useMessages();
  return (
    <div className={classes.detail}>
      <ul>
        {preset.reasons.map((reason) => (
          <li key={reason}>{reason}</li>
        ))}
      </ul>
      {preset.suits && (
        <>
          <p className={classes.values}>
            {Object.entries(preset.values)
              .map(([name, value]) => t.common.labelled(t.options[name as keyof Messages["options"]], showOption(value, t, format.small)))
              .join(" · ")}
          </p>
          <Button size="sm" onClick={() => onApply(preset.values)}>
            {t.presets.apply(preset.name)}
          </Button>
        </>
      )}
    </div>
  );
}
