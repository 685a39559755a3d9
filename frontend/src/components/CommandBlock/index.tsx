import { Button, CopyButton, Group, Text } from "@mantine/core";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import classes from "./CommandBlock.module.css";

/** A command or a text to copy. */
export function CommandBlock({ title, command }: { title: string; command: string }) {
  const { t } = useMessages();
  return (
    <div className={classes.block}>
      <Group justify="space-between" mb={6}>
        <Text size="sm" fw={600}>
          {title}
        </Text>
        <CopyButton value={command}>
          {({ copied, copy }) => (
            <Button size="compact-xs" variant="default" leftSection={<Icon name={copied ? "check" : "copy"} size={13} />} onClick={copy}>
              <span aria-live="polite">{copied ? t.common.copied : t.common.copy}</span>
            </Button>
          )}
        </CopyButton>
      </Group>
      {/* A region that scrolls has to be reachable by keyboard. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <pre className={classes.code} tabIndex={0}>
        {command}
      </pre>
    </div>
  );
}
