import { Button, Progress } from "@mantine/core";
import { useRef, useState, type DragEvent } from "react";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import classes from "./FileDrop.module.css";

const EXTENSIONS = [".csv", ".tsv", ".json", ".jsonl", ".ndjson"];

interface FileDropProps {
  onFile: (file: File) => void;
  onRefused: () => void;
  /** Name of the file on its way and the share that was sent, 0..1. */
  sending?: { name: string; share: number } | undefined;
}

/** A place to drop a file, or to choose one with mouse or keyboard. */
export function FileDrop({ onFile, onRefused, sending }: FileDropProps) {
  const { t, format } = useMessages();
  const input = useRef<HTMLInputElement>(null);
  const [over, setOver] = useState(false);

  const take = (file: File | undefined): void => {
    if (!file || sending) return;
    if (EXTENSIONS.some((extension) => file.name.toLowerCase().endsWith(extension))) onFile(file);
    else onRefused();
  };
  const onDrop = (event: DragEvent): void => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files[0]);
  };

  return (
    // Dropping is an extra for the mouse; the button inside does the same for everybody.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <div
      className={classes.drop}
      role="group"
      aria-label={t.upload.drop}
      data-over={over || undefined}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={onDrop}
    >
      <span className={classes.icon}>
        <Icon name="file" size={30} />
      </span>
      {sending ? (
        <div className={classes.sending} role="status">
          <p className={classes.title}>{sending.share < 1 ? t.upload.sending(sending.name) : t.upload.reading}</p>
          <Progress value={sending.share * 100} animated={sending.share >= 1} aria-label={t.upload.sending(sending.name)} mt="sm" />
          <p className={classes.hint}>{sending.share < 1 ? format.percent(sending.share) : sending.name}</p>
        </div>
      ) : (
        <>
          <p className={classes.title}>{over ? t.upload.dropNow : t.upload.drop}</p>
          <p className={classes.hint}>{t.upload.formats}</p>
          <Button leftSection={<Icon name="upload" />} onClick={() => input.current?.click()}>
            {t.upload.choose}
          </Button>
        </>
      )}
      <input
        ref={input}
        type="file"
        hidden
        aria-label={t.upload.choose}
        accept={EXTENSIONS.join(",")}
        onChange={(event) => {
          take(event.target.files?.[0]);
          event.target.value = "";
        }}
      />
    </div>
  );
}
