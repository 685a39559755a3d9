import { Button, Progress } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { importQuery, type Sent } from "@/api/datasets";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import classes from "./FileDrop.module.css";

const ASK_AFTER_MS = 700;

/** A file on its way to the server, or being read there. */
export interface SendingFile extends Sent {
  name: string;
  /** Under which the server can be asked how far it is. */
  importId: string;
}

/** How far a file is: sent, then unpacked and read by the server; with its speed, and a way to break it off. */
export function Sending({ sending, onStop }: { sending: SendingFile; onStop: () => void }) {
  const { t, format } = useMessages();
  const { name, importId, sent, total, perSecond } = sending;
  const received = sent >= total;
  // A small file is read before it is worth asking: then the bar only moves.
  const [asking, setAsking] = useState(false);
  useEffect(() => {
    if (!received) return;
    const timer = setTimeout(() => setAsking(true), ASK_AFTER_MS);
    return () => clearTimeout(timer);
  }, [received]);
  const { data: reading } = useQuery({ ...importQuery(importId), enabled: asking });
  const speed = (done: number, all: number, rate: number): string =>
    `${t.bring.speed(format.bytes(done), format.bytes(all), format.bytes(rate))}, ${t.bring.left(format.estimate((all - done) / rate))}`;
  const rate = reading && reading.seconds > 0 ? reading.done_bytes / reading.seconds : 0;
  return (
    <div className={classes.sending} role="status">
      <p className={classes.title}>{received ? (reading ? t.bring.stages[reading.stage] : t.upload.reading) : t.upload.sending(name)}</p>
      <Progress
        value={percent(received && reading ? reading.done_bytes : sent, received && reading ? reading.total_bytes : total)}
        animated={received}
        aria-label={received ? t.upload.reading : t.upload.sending(name)}
        mt="sm"
      />
      <p className={classes.hint}>
        {!received && perSecond > 0 && speed(sent, total, perSecond)}
        {received && reading && rate > 0 && speed(reading.done_bytes, reading.total_bytes, rate)}
        {(received ? rate === 0 : perSecond === 0) && name}
      </p>
      <Button size="xs" variant="default" leftSection={<Icon name="stop" />} onClick={onStop}>
        {t.bring.stop}
      </Button>
    </div>
  );
}

const percent = (part: number, whole: number): number => (whole > 0 ? (100 * part) / whole : 100);
