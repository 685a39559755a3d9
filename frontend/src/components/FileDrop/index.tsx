import { Button, Group } from "@mantine/core";
import { useRef, useState } from "react";
import { Icon } from "@/components/Icon";
import { useFileDrop } from "@/hooks/useFileDrop";
import { useMessages } from "@/hooks/useMessages";
import classes from "./FileDrop.module.css";
import { PasteBox } from "./PasteBox";
import { Sending, type SendingFile } from "./Sending";

export type { SendingFile };

interface FileDropProps {
  onFile: (file: File) => void;
  /** The file on its way. */
  sending?: SendingFile | undefined;
  onStop: () => void;
}

/** A file comes in: dropped anywhere on the page, chosen with mouse or keyboard, or pasted. The server knows it by its content. */
export function FileDrop({ onFile, sending, onStop }: FileDropProps) {
  const { t } = useMessages();
  const input = useRef<HTMLInputElement>(null);
  const [pasted, setPasted] = useState<string>();
  const over = useFileDrop({ onFile, onText: setPasted, enabled: !sending && pasted === undefined });

  return (
    <>
      {over && <div className={classes.veil} aria-hidden="true" />}
      <div className={classes.drop} role="group" aria-label={t.upload.drop} data-over={over || undefined}>
        <span className={classes.icon}>
          <Icon name="file" size={30} />
        </span>
        {sending ? (
          <Sending sending={sending} onStop={onStop} />
        ) : (
          <>
            <p className={classes.title}>{over ? t.upload.dropNow : t.upload.drop}</p>
            <p className={classes.hint}>
              {t.bring.anywhere} {t.upload.formats}
            </p>
            <Group gap="xs" justify="center">
              <Button leftSection={<Icon name="upload" />} onClick={() => input.current?.click()}>
                {t.upload.choose}
              </Button>
              <Button variant="default" leftSection={<Icon name="copy" />} onClick={() => setPasted("")}>
                {t.bring.paste}
              </Button>
            </Group>
          </>
        )}
        <input
          ref={input}
          type="file"
          hidden
          aria-label={t.upload.choose}
          onChange={(event) => {
            const file = event.target.files?.[0];
            if (file && !sending) onFile(file);
            event.target.value = "";
          }}
        />
      </div>
      {pasted !== undefined && !sending && <PasteBox text={pasted} onFile={onFile} onClose={() => setPasted(undefined)} />}
    </>
  );
}
