import { Text, Title } from "@mantine/core";
import type { ReactNode } from "react";
import classes from "./PageHeader.module.css";

/** The page's one h1, a sentence below it, and its main action. */
export function PageHeader({ title, lead, action }: { title: string; lead?: string; action?: ReactNode }) {
  return (
    <header className={classes.header}>
      <div className={classes.words}>
        <Title order={1}>{title}</Title>
        {lead && (
          <Text c="dimmed" mt={6} maw="62ch">
            {lead}
          </Text>
        )}
      </div>
      {action}
    </header>
  );
}
