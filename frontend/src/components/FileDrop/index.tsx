import { Button, Group, Progress } from "@mantine/core";
import { useRef, useState } from "react";
import type { Sent } from "@/api/datasets";
import { Icon } from "@/components/Icon";
import { useFileDrop } from "@/hooks/useFileDrop";
import { useMessages } from "@/hooks/useMessages";
import classes from "./FileDrop.module.css";
import { PasteBox } from "./PasteBox";

interface FileDropProps {
  onFile: (file: File) => void;
  /** The file on its way. */
  sending?: (Sent & { name: string }) | undefined;
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

function Sending({ sending, onStop }: { sending: Sent & { name: string }; onStop: () => void }) {
  const { t, format } = useMessages();
  const { name, sent, total, perSecond } = sending;
  const done = sent >= total;
  const speed = t.bring.speed(format.bytes(sent), format.bytes(total), format.bytes(perSecond));
  return (
    <div className={classes.sending} role="status">
      <p className={classes.title}>{done ? t.upload.reading : t.upload.sending(name)}</p>
      <Progress value={total ? (100 * sent) / total : 100} animated={done} aria-label={t.upload.sending(name)} mt="sm" />
      <p className={classes.hint}>
        {done || perSecond === 0 ? name : `${speed}, ${t.bring.left(format.estimate((total - sent) / perSecond))}`}
      </p>
      <Button size="xs" variant="default" leftSection={<Icon name="stop" />} onClick={onStop}>
        {t.bring.stop}
      </Button>
    </div>
  );
}
