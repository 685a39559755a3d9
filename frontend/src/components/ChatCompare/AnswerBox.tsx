import { Loader } from "@mantine/core";
import { useMessages } from "@/hooks/useMessages";
import type { Answer } from "@/lib/answer";
import classes from "./ChatCompare.module.css";

interface AnswerBoxProps {
  /** Who answers, in words. */
  label: string;
  answer: Answer;
  /** Drawn as the model that was tuned. */
  tuned: boolean;
}

/** One model's answer as it arrives, with the state of waiting in words. */
export function AnswerBox({ label, answer, tuned }: AnswerBoxProps) {
  const { t, format } = useMessages();
  const pending = !answer.finished;
  const state = answer.waiting ? t.chat.waiting : answer.text ? t.chat.writing : t.chat.loading;
  return (
    <article className={classes.answer} data-target={tuned ? "tuned" : "base"} aria-busy={pending} aria-label={label}>
      <p className={classes.target}>{label}</p>
      {answer.text && <p className={classes.text}>{answer.text}</p>}
      {answer.error && <p className={classes.error}>{answer.error}</p>}
      {!pending && !answer.text && !answer.error && <p className={classes.state}>{t.chat.empty}</p>}
      {pending && (
        <p className={classes.state} role="status">
          <Loader size={13} aria-hidden="true" /> {state}
        </p>
      )}
      {!pending && answer.tokens > 0 && (
        <p className={classes.state}>{t.chat.seconds(format.duration(answer.seconds), format.number(answer.tokens))}</p>
      )}
    </article>
  );
}
