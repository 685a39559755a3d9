import { NumberInput, SimpleGrid, TextInput } from "@mantine/core";
import { useMessages } from "@/hooks/useMessages";
import { chatLimits } from "@/types/limits.gen";
import type { Drawing } from "./useConversation";

/** Fields beside each other stay in line, however long their hints are. */
const HINT_BELOW: ("label" | "input" | "description")[] = ["label", "input", "description"];

interface DrawingSettingsProps {
  value: Drawing;
  onChange: (value: Drawing) => void;
}

/** How all answers are drawn: the same for everyone, so that only the models differ. */
export function DrawingSettings({ value, onChange }: DrawingSettingsProps) {
  const { t } = useMessages();
  const number = (name: "temperature" | "top_p" | "seed" | "max_new_tokens", label: string, hint: string, step: number) => (
    <NumberInput
      size="sm"
      inputWrapperOrder={HINT_BELOW}
      label={label}
      description={hint}
      min={name === "top_p" ? step : chatLimits[name].minimum}
      max={chatLimits[name].maximum}
      step={step}
      allowDecimal={step < 1}
      decimalScale={2}
      value={value[name]}
      onChange={(typed) => typeof typed === "number" && onChange({ ...value, [name]: typed })}
    />
  );
  return (
    <SimpleGrid cols={{ base: 1, xs: 2, md: 5 }} spacing="sm" verticalSpacing="sm">
      {number("temperature", t.chat.temperature, t.chat.temperatureHint, 0.1)}
      {number("top_p", t.playground.topP, "", 0.05)}
      {number("seed", t.playground.seed, t.playground.seedHint, 1)}
      {number("max_new_tokens", t.chat.maxTokens, "", 50)}
      <TextInput
        size="sm"
        inputWrapperOrder={HINT_BELOW}
        label={t.playground.stop}
        description={t.playground.stopHint}
        value={(value.stop ?? []).join("|")}
        onChange={({ currentTarget }) =>
          onChange({ ...value, stop: currentTarget.value === "" ? [] : currentTarget.value.split("|").slice(0, 4) })
        }
      />
    </SimpleGrid>
  );
}
