import { Button, Group, Textarea } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState, type FormEvent, type KeyboardEvent } from "react";
import { rowsQuery } from "@/api/datasets";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { Panel } from "@/components/Panel";
import { useMessages } from "@/hooks/useMessages";
import { chatLimits } from "@/types/limits.gen";
import { AnswerBox } from "./AnswerBox";
import { AnswerSettings } from "./AnswerSettings";
import { exampleQuestions } from "./examples";
import { TARGETS, useChat, type Generation } from "./useChat";
import classes from "./ChatCompare.module.css";

const ROWS_READ = 24;

/** Asks the tuned model and the original the same question and shows both answers beside each other. */
export function ChatCompare({ jobId, datasetId }: { jobId: string; datasetId: string }) {
  const { t } = useMessages();
  const { data: rows } = useQuery({ ...rowsQuery(datasetId, 0, ROWS_READ), retry: false });
  const { turns, busy, ask, stop, clear } = useChat(jobId);
  const [question, setQuestion] = useState("");
  const [generation, setGeneration] = useState<Generation>({});
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => field.current?.focus(), []);

  const submit = (text: string): void => {
    const trimmed = text.trim();
    if (!trimmed || busy) return;
    setQuestion("");
    void ask(trimmed, generation);
  };
  const onSubmit = (event: FormEvent): void => {
    event.preventDefault();
    submit(question);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    submit(question);
  };
  const examples = exampleQuestions(rows?.rows ?? []);

  return (
    <Panel
      title={t.chat.title}
      hint={t.chat.hint}
      action={
        turns.length > 0 &&
        !busy && (
          <Button size="xs" variant="default" onClick={clear}>
            {t.chat.clear}
          </Button>
        )
      }
    >
      <div className={classes.turns} aria-live="polite" aria-relevant="additions">
        {turns.map((turn) => (
          <div key={turn.id} data-testid="turn">
            <p className={classes.question}>
              <span>{t.chat.you}</span>
              {turn.question}
            </p>
            {turn.error ? (
              <ErrorNotice error={turn.error} />
            ) : (
              <div className={classes.answers}>
                {TARGETS.map((target) => (
                  <AnswerBox key={target} label={t.chat[target]} tuned={target === "tuned"} answer={turn.answers[target]} />
                ))}
              </div>
            )}
          </div>
        ))}
      </div>
      <form onSubmit={onSubmit}>
        <Textarea
          ref={field}
          label={t.chat.question}
          placeholder={t.chat.placeholder}
          autosize
          minRows={2}
          maxRows={8}
          maxLength={chatLimits.prompt.maxLength}
          value={question}
          onChange={(event) => setQuestion(event.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {examples.length > 0 && (
          <div className={classes.examples}>
            <span>{t.chat.examples}</span>
            {examples.map((example) => (
              <button key={example} type="button" disabled={busy} onClick={() => submit(example)}>
                {example}
              </button>
            ))}
          </div>
        )}
        <Group justify="space-between" align="flex-end" mt="md" gap="sm">
          <AnswerSettings value={generation} onChange={setGeneration} />
          {busy ? (
            <Button variant="default" leftSection={<Icon name="stop" />} onClick={stop}>
              {t.chat.stop}
            </Button>
          ) : (
            <Button type="submit" leftSection={<Icon name="send" />} disabled={question.trim() === ""}>
              {t.chat.ask}
            </Button>
          )}
        </Group>
      </form>
    </Panel>
  );
}
