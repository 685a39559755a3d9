import { Group, NumberInput } from "@mantine/core";
import { useMessages } from "@/hooks/useMessages";
import { chatLimits } from "@/types/limits.gen";
import type { Generation } from "./useChat";
import classes from "./ChatCompare.module.css";

interface AnswerSettingsProps {
  value: Generation;
  onChange: (value: Generation) => void;
}

/** How an answer is drawn; hidden until asked for. */
export function AnswerSettings({ value, onChange }: AnswerSettingsProps) {
  const { t } = useMessages();
  const change = (name: keyof Generation) => (typed: string | number) =>
    onChange({ ...value, [name]: typeof typed === "number" ? typed : undefined });
  return (
    <details className={classes.settings}>
      <summary>{t.chat.settings}</summary>
      <Group mt="xs" gap="sm" align="flex-end">
        <NumberInput
          size="xs"
          label={t.chat.temperature}
          description={t.chat.temperatureHint}
          placeholder="0"
          min={chatLimits.temperature.minimum}
          max={chatLimits.temperature.maximum}
          step={0.1}
          decimalScale={2}
          value={value.temperature ?? ""}
          onChange={change("temperature")}
        />
        <NumberInput
          size="xs"
          label={t.chat.maxTokens}
          placeholder={t.common.automatic}
          min={chatLimits.max_new_tokens.minimum}
          max={chatLimits.max_new_tokens.maximum}
          allowDecimal={false}
          value={value.max_new_tokens ?? ""}
          onChange={change("max_new_tokens")}
        />
      </Group>
    </details>
  );
}
