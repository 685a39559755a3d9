import { Button, Group, Textarea } from "@mantine/core";
import { useState, type FormEvent } from "react";
import { Panel } from "@/components/Panel";
import { useMessages } from "@/hooks/useMessages";
import { nameOfText } from "@/lib/pastedName";

interface PasteBoxProps {
  text: string;
  onFile: (file: File) => void;
  onClose: () => void;
}

/** Rows that were copied somewhere, to look at before they are imported. */
export function PasteBox({ text, onFile, onClose }: PasteBoxProps) {
  const { t } = useMessages();
  const [rows, setRows] = useState(text);
  const onSubmit = (event: FormEvent): void => {
    event.preventDefault();
    onFile(new File([rows], nameOfText(rows, t.bring.pasteName), { type: "text/plain" }));
    onClose();
  };
  return (
    <Panel title={t.bring.paste}>
      <form onSubmit={onSubmit}>
        <Textarea
          label={t.bring.pasteLabel}
          description={t.bring.pasteHint}
          data-autofocus
          autosize
          minRows={6}
          maxRows={16}
          spellCheck={false}
          styles={{ input: { fontFamily: "var(--mantine-font-family-monospace)", fontSize: 13.5 } }}
          value={rows}
          onChange={(event) => setRows(event.currentTarget.value)}
        />
        <Group gap="xs" mt="sm">
          <Button type="submit" disabled={!rows.trim()}>
            {t.bring.import}
          </Button>
          <Button variant="default" onClick={onClose}>
            {t.common.cancel}
          </Button>
        </Group>
      </form>
    </Panel>
  );
}
