import { Group, Text, Title } from "@mantine/core";
import type { ReactNode } from "react";
import classes from "./Panel.module.css";

interface PanelProps {
  title?: ReactNode;
  hint?: ReactNode;
  action?: ReactNode;
  children: ReactNode;
}

/** One block of a page: a titled surface. */
export function Panel({ title, hint, action, children }: PanelProps) {
  return (
    <section className={classes.panel}>
      {(title || action) && (
        <Group justify="space-between" align="flex-start" gap="sm" mb="md">
          <div className={classes.titles}>
            {title && <Title order={2}>{title}</Title>}
            {hint && (
              <Text size="sm" c="dimmed" mt={2}>
                {hint}
              </Text>
            )}
          </div>
          {action}
        </Group>
      )}
      {children}
    </section>
  );
}
