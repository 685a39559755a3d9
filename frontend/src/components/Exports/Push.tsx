import { Anchor, Button, Checkbox, Group, Text, TextInput } from "@mantine/core";
import { useState } from "react";
import { usePushExport } from "@/api/exports";
import { Callout } from "@/components/Callout";
import { ErrorNotice } from "@/components/ErrorNotice";
import { useMessages } from "@/hooks/useMessages";
import type { Export } from "@/types/api";

/** Sends a finished export to the hub that the server is set up with. */
export function Push({ jobId, made }: { jobId: string; made: Export }) {
  const { t } = useMessages();
  const [repo, setRepo] = useState("");
  const [shut, setShut] = useState(true);
  const push = usePushExport(jobId, made.format);
  const running = made.push?.state === "running";
  return (
    <details>
      <summary>{t.exports.push}</summary>
      <Group gap="xs" align="end" mt="xs">
        <TextInput
          label={t.exports.repository}
          description={t.exports.repositoryHint}
          placeholder="owner/name"
          value={repo}
          onChange={(event) => setRepo(event.currentTarget.value)}
        />
        <Checkbox label={t.exports.private} checked={shut} onChange={(event) => setShut(event.currentTarget.checked)} mb={8} />
        <Button
          variant="default"
          disabled={!repo.includes("/")}
          loading={push.isPending || running}
          onClick={() => push.mutate({ repo_id: repo.trim(), private: shut })}
        >
          {t.exports.send}
        </Button>
      </Group>
      {push.error && <ErrorNotice error={push.error} />}
      {made.push?.error && (
        <Callout tone="bad" title={made.push.error.message} role="status">
          {made.push.error.hint}
        </Callout>
      )}
      {made.pushed_to && (
        <Text size="sm" mt={4}>
          {t.exports.pushedTo}{" "}
          <Anchor href={made.pushed_to} target="_blank" rel="noopener noreferrer">
            {made.pushed_to}
          </Anchor>
        </Text>
      )}
    </details>
  );
}
