import { Button, Group, Progress, Text } from "@mantine/core";
import { Callout } from "@/components/Callout";
import { ErrorNotice } from "@/components/ErrorNotice";
import { useMessages } from "@/hooks/useMessages";
import classes from "./Trial.module.css";
import { useTrial } from "./useTrial";

/** From this share on a prompt alone does what a training would be for. */
const GOOD_ENOUGH = 0.9;

/** Lets the original model answer some rows, plainly and with a prompt: is a training needed at all? */
export function Trial({ datasetId, modelName }: { datasetId: string; modelName: string }) {
  const { t, format } = useMessages();
  const trial = useTrial(datasetId, modelName);
  const last = trial.steps.at(-1);
  const rows = trial.steps.flatMap((step) => step.row ?? []);
  const summary = last?.summary;
  const failure = trial.steps.find((step) => step.error)?.error;
  return (
    <div className={classes.trial} data-testid="trial">
      <Group gap="xs">
        <Button variant="default" onClick={trial.running ? trial.stop : trial.start}>
          {trial.running ? t.trial.stop : t.trial.start}
        </Button>
        {trial.running && last?.waiting && <Text size="sm">{t.chat.waiting}</Text>}
      </Group>
      {trial.running && <Progress value={last ? (100 * last.done) / last.total : 0} aria-label={t.trial.title} />}
      {trial.error && <ErrorNotice error={trial.error} />}
      {failure && (
        <Callout tone="bad" title={failure.message} role="status">
          {failure.hint}
        </Callout>
      )}
      {summary && (
        <Callout
          tone={summary.right_prompted >= GOOD_ENOUGH ? "good" : "info"}
          role="status"
          title={summary.right_prompted >= GOOD_ENOUGH ? t.trial.enough : t.trial.notEnough}
        >
          <p>{t.trial.right(format.percent(summary.right_base), format.percent(summary.right_prompted), summary.rows)}</p>
          <p>{t.trial.overlap(format.percent(summary.overlap_base), format.percent(summary.overlap_prompted))}</p>
          <p>{t.trial.prompt(summary.example_rows.length, summary.system_prompt)}</p>
          {!summary.heldout && <p>{t.trial.trainingRows}</p>}
        </Callout>
      )}
      {rows.length > 0 && (
        <details>
          <summary>{t.trial.answers(rows.length)}</summary>
          <ul className={classes.rows}>
            {rows.map((row) => (
              <li key={row.row} className={classes.row}>
                <strong className={classes.text}>{row.question.at(-1)?.content}</strong>
                <dl className={classes.answers}>
                  <dt>{t.report.expected}</dt>
                  <dd>{row.expected}</dd>
                  <dt>{t.report.base}</dt>
                  <dd>{row.base || "–"}</dd>
                  <dt>{t.report.prompted}</dt>
                  <dd>{row.prompted || "–"}</dd>
                </dl>
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}
