import { Button, Collapse, Group, Text, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import type { Plan } from "@/types/api";
import { ADVANCED, explainProblem, type AdvancedText } from "./advanced";
import classes from "./AdvancedOptions.module.css";

interface AdvancedOptionsProps {
  values: AdvancedText;
  onChange: (values: AdvancedText) => void;
  /** The last plan: shows what automatic means right now. */
  plan: Plan | undefined;
}

/** Overrides for experts, one by one; each field shows the automatic value and where it comes from. */
export function AdvancedOptions({ values, onChange, plan }: AdvancedOptionsProps) {
  const { t, format } = useMessages();
  const count = ADVANCED.filter((name) => values[name]?.trim()).length;
  const [opened, { toggle }] = useDisclosure(count > 0);
  const number = (value: number): string => (Number.isInteger(value) ? String(value) : format.small(value));

  return (
    <div>
      <Group justify="space-between" gap="xs">
        <button type="button" className={classes.toggle} aria-expanded={opened} aria-controls="advanced-options" onClick={toggle}>
          <span className={classes.chevron} data-open={opened || undefined}>
            <Icon name="chevron" />
          </span>
          {t.training.advanced}
          {count > 0 && <span className={classes.count}>{t.training.overrides(count)}</span>}
        </button>
        {count > 0 && (
          <Button size="compact-sm" variant="subtle" onClick={() => onChange({})}>
            {t.training.reset}
          </Button>
        )}
      </Group>
      <Collapse expanded={opened} id="advanced-options">
        <Text size="sm" c="dimmed" mt="xs" mb="md">
          {t.training.advancedHint}
        </Text>
        <div className={classes.grid}>
          {ADVANCED.map((name) => {
            const text = values[name] ?? "";
            const resolved = plan?.resolved[name];
            const automatic = text === "" && typeof resolved?.value === "number" ? resolved : undefined;
            const origin = automatic && (automatic.reason ?? t.training.automaticFrom(t.origins[automatic.origin]));
            return (
              <TextInput
                key={name}
                label={t.options[name]}
                description={origin ? `${t.optionHints[name]} ${origin}` : t.optionHints[name]}
                placeholder={automatic ? number(automatic.value as number) : t.common.automatic}
                classNames={{ description: classes.hint ?? "" }}
                inputMode="decimal"
                autoComplete="off"
                value={text}
                error={explainProblem(name, text, t, number)}
                onChange={(event) => onChange({ ...values, [name]: event.currentTarget.value })}
              />
            );
          })}
        </div>
      </Collapse>
    </div>
  );
}
