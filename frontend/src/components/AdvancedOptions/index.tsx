import { Button, Collapse, Group, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Icon } from "@/components/Icon";
import { OptionField } from "@/components/OptionField";
import { useMessages } from "@/hooks/useMessages";
import type { OptionText } from "@/lib/optionText";
import type { Plan } from "@/types/api";
import { ADVANCED_GROUPS, countOwn, type AdvancedGroup } from "./advanced";
import classes from "./AdvancedOptions.module.css";

interface AdvancedOptionsProps {
  values: OptionText;
  onChange: (values: OptionText) => void;
  /** Forgets every value that a person set here. */
  onReset: () => void;
  /** The last plan: what automatic means right now. */
  plan: Plan | undefined;
  /** What the server said about single fields, by option. */
  refused: Record<string, string>;
}

/** Advanced mode: every hyper-parameter beside its automatic value and where that comes from. */
export function AdvancedOptions({ values, onChange, onReset, plan, refused }: AdvancedOptionsProps) {
  const { t } = useMessages();
  const count = countOwn(values);
  const [opened, { toggle }] = useDisclosure(count > 0);

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
          <Button size="compact-sm" variant="subtle" leftSection={<Icon name="undo" size={15} />} onClick={onReset}>
            {t.training.resetAll}
          </Button>
        )}
      </Group>
      <Collapse expanded={opened} id="advanced-options">
        <Text size="sm" c="dimmed" mt="xs">
          {t.training.advancedHint}
        </Text>
        {(Object.keys(ADVANCED_GROUPS) as AdvancedGroup[]).map((group) => (
          <section key={group} className={classes.group}>
            <h3>{t.training.groups[group]}</h3>
            {ADVANCED_GROUPS[group].map((name) => (
              <OptionField
                key={name}
                name={name}
                text={values[name] ?? ""}
                resolved={plan?.resolved[name]}
                refused={refused[name]}
                onChange={(text) => onChange({ ...values, [name]: text })}
              />
            ))}
          </section>
        ))}
      </Collapse>
    </div>
  );
}
