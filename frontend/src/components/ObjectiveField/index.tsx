import { Input, SegmentedControl, Text } from "@mantine/core";
import { useMessages } from "@/hooks/useMessages";
import type { Objective } from "@/types/api";

const OBJECTIVES: readonly Objective[] = ["speed", "balanced", "quality"];
/** What the server takes when nothing is said. */
const AUTOMATIC: Objective = "balanced";

/** What matters more: a short wait or a better result. */
export function ObjectiveField({ value, onChange }: { value: Objective | undefined; onChange: (value: Objective | undefined) => void }) {
  const { t } = useMessages();
  const shown = value ?? AUTOMATIC;
  return (
    <div>
      <Input.Label size="md" labelElement="div" mb={4} id="objective-label">
        {t.options.objective}
      </Input.Label>
      <SegmentedControl
        fullWidth
        aria-labelledby="objective-label"
        value={shown}
        onChange={(chosen) => onChange(chosen === AUTOMATIC ? undefined : chosen)}
        data={OBJECTIVES.map((objective) => ({ value: objective, label: t.optionValues[objective] }))}
      />
      <Text size="sm" c="dimmed" mt={6}>
        {t.objectiveHints[shown]}
      </Text>
    </div>
  );
}
