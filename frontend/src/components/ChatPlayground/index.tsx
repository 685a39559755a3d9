import { Button, CloseButton, Group, MultiSelect, Stack, Textarea } from "@mantine/core";
import { useQueries } from "@tanstack/react-query";
import { useState, type FormEvent, type KeyboardEvent } from "react";
import { checkpointsQuery } from "@/api/jobs";
import { AnswerBox } from "@/components/ChatCompare/AnswerBox";
import chat from "@/components/ChatCompare/ChatCompare.module.css";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { Panel } from "@/components/Panel";
import { useMessages } from "@/hooks/useMessages";
import { chatLimits } from "@/types/limits.gen";
import type { Checkpoint, Job, Model } from "@/types/api";
import { DrawingSettings } from "./DrawingSettings";
import { useSavedPrompts } from "./savedPrompts";
import { distinct, jobKey, listVoices, modelKey } from "./targets";
import { useConversation, type Drawing } from "./useConversation";
import classes from "./ChatPlayground.module.css";

const MOST_VOICES = 8;
const START: Drawing = { temperature: 0, top_p: 1, seed: 0, max_new_tokens: 200, stop: [] };

interface ChatPlaygroundProps {
  models: Model[];
  jobs: Job[];
  /** The training that the reader comes from: it is asked at first, beside its original. */
  jobId: string | undefined;
}

/** Asks several models the same, in a conversation of its own with each. */
export function ChatPlayground({ models, jobs, jobId }: ChatPlaygroundProps) {
  const { t, format } = useMessages();
  const [chosen, setChosen] = useState(() => firstVoices(models, jobs, jobId));
  const [system, setSystem] = useState("");
  const [question, setQuestion] = useState("");
  const [drawing, setDrawing] = useState(START);
  const { turns, busy, ask, stop, clear } = useConversation();
  const saved = useSavedPrompts();
  const near = jobs.filter((job) => chosen.some((key) => key.startsWith(jobKey(job.job_id))));
  const checkpoints = useQueries({ queries: near.map((job) => checkpointsQuery(job.job_id)) });
  const found = new Map<string, Checkpoint[]>(near.map((job, place) => [job.job_id, checkpoints[place]?.data ?? []]));
  const groups = distinct(listVoices(models, jobs, found, t.playground, format.number));
  const voices = groups.flatMap((group) => group.voices).filter((voice) => chosen.includes(voice.key));

  const submit = (event?: FormEvent): void => {
    event?.preventDefault();
    const asked = question.trim();
    if (!asked || busy || voices.length === 0) return;
    setQuestion("");
    void ask(asked, voices, system, drawing);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    submit(event);
  };

  return (
    <Panel
      action={
        turns.length > 0 &&
        !busy && (
          <Button size="xs" variant="default" onClick={clear}>
            {t.chat.clear}
          </Button>
        )
      }
    >
      <Stack gap="md">
        <MultiSelect
          label={t.playground.who}
          description={t.playground.whoHint}
          searchable
          hidePickedOptions
          maxValues={MOST_VOICES}
          nothingFoundMessage={t.playground.nothing}
          value={chosen}
          onChange={setChosen}
          data={groups.map((group) => ({ group: group.title, items: group.voices.map(({ key, label }) => ({ value: key, label })) }))}
        />
        <details className={chat.settings} open>
          <summary>{t.chat.settings}</summary>
          <Stack gap="sm" mt="sm">
            <Textarea
              label={t.playground.system}
              description={t.playground.systemHint}
              autosize
              minRows={1}
              maxRows={6}
              value={system}
              onChange={({ currentTarget }) => setSystem(currentTarget.value)}
            />
            <DrawingSettings value={drawing} onChange={setDrawing} />
          </Stack>
        </details>
        {turns.length > 0 && (
          <div className={chat.turns} aria-live="polite" aria-relevant="additions">
            {turns.map((turn) => (
              <div key={turn.id} data-testid="turn">
                <p className={chat.question}>
                  <span>{t.chat.you}</span>
                  {turn.question}
                </p>
                {turn.error ? (
                  <ErrorNotice error={turn.error} />
                ) : (
                  <div className={chat.answers}>
                    {turn.voices.map((voice, place) => {
                      const answer = turn.answers[place];
                      return answer && <AnswerBox key={voice.key} label={voice.label} tuned={voice.tuned} answer={answer} />;
                    })}
                  </div>
                )}
              </div>
            ))}
          </div>
        )}
        <form onSubmit={submit}>
          <Textarea
            label={t.chat.question}
            placeholder={t.chat.placeholder}
            autosize
            minRows={2}
            maxRows={8}
            maxLength={chatLimits.prompt.maxLength}
            value={question}
            onChange={({ currentTarget }) => setQuestion(currentTarget.value)}
            onKeyDown={onKeyDown}
          />
          {saved.prompts.length > 0 && (
            <div className={classes.saved}>
              <span>{t.playground.saved}</span>
              {saved.prompts.map((prompt) => (
                <span key={prompt} className={classes.prompt}>
                  <button type="button" onClick={() => setQuestion(prompt)}>
                    {prompt}
                  </button>
                  <CloseButton size="xs" aria-label={t.playground.forget(prompt)} onClick={() => saved.forget(prompt)} />
                </span>
              ))}
            </div>
          )}
          <Group justify="flex-end" mt="md" gap="sm">
            <Button variant="default" disabled={question.trim() === ""} onClick={() => saved.save(question.trim())}>
              {t.playground.save}
            </Button>
            {busy ? (
              <Button variant="default" leftSection={<Icon name="stop" />} onClick={stop}>
                {t.chat.stop}
              </Button>
            ) : (
              <Button
                type="submit"
                leftSection={<Icon name="send" />}
                disabled={question.trim() === "" || voices.length === 0}
              >
                {t.chat.ask}
              </Button>
            )}
          </Group>
        </form>
      </Stack>
    </Panel>
  );
}

/** A training beside its original; without one, the first model that is here. */
function firstVoices(models: Model[], jobs: Job[], jobId: string | undefined): string[] {
  const trained = jobs.filter((job) => job.can_chat);
  const job = trained.find((found) => found.job_id === jobId) ?? trained[0];
  const ready = models.filter((model) => model.weights === "ready");
  if (!job) return ready.slice(0, 1).map((model) => modelKey(model.id));
  const original = ready.find((model) => model.id === job.model_id);
  return [jobKey(job.job_id), ...(original ? [modelKey(original.id)] : [])];
}
