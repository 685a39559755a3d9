import { Anchor, Text } from "@mantine/core";
import { reportJsonPath, reportPagePath } from "@/api/jobs";
import { useMessages } from "@/hooks/useMessages";
import type { Comparison as ComparisonRead } from "@/types/api";
import { Figures } from "./Figures";
import classes from "./ReportCard.module.css";

type Answered = ComparisonRead["worst"][number];
type Fact = ComparisonRead["facts"][number];

function Side({ name, text, mark }: { name: string; text: string; mark?: string | undefined }) {
  return (
    <div>
      <Text size="xs" c="dimmed">
        {name}
        {mark && ` · ${mark}`}
      </Text>
      <div className={classes.text}>{text || "–"}</div>
    </div>
  );
}

function Answers({ row }: { row: Answered }) {
  const { t, format } = useMessages();
  return (
    <li className={classes.row}>
      <Text size="xs" c="dimmed">
        {t.report.row(format.number(row.row))}
      </Text>
      {row.question.map((turn, place) => (
        // Turns never change their order.
        <div key={place} className={classes.question}>
          {turn.content}
        </div>
      ))}
      <div className={classes.sides}>
        <Side name={t.report.expected} text={row.expected} />
        <Side name={t.report.tuned} text={row.tuned} mark={row.right ? t.report.right : undefined} />
        <Side name={t.report.base} text={row.base} />
        {row.prompted !== null && <Side name={t.report.prompted} text={row.prompted} />}
      </div>
    </li>
  );
}

function Facts({ facts }: { facts: Fact[] }) {
  const { t } = useMessages();
  return (
    <ul className={classes.rows}>
      {facts.map((fact) => (
        <li key={fact.question} className={classes.row}>
          <div className={classes.question} lang={fact.language}>
            {fact.question}
          </div>
          <div className={classes.sides}>
            <Side name={t.report.base} text={fact.base} mark={fact.base_right ? t.report.right : undefined} />
            <Side name={t.report.tuned} text={fact.tuned} mark={fact.tuned_right ? t.report.right : undefined} />
          </div>
        </li>
      ))}
    </ul>
  );
}

/** The original and the trained model beside each other: figures, the worst answers, what was forgotten. */
export function Comparison({ jobId, comparison }: { jobId: string; comparison: ComparisonRead }) {
  const { t, format, language } = useMessages();
  return (
    <div className={classes.report} data-testid="comparison">
      <Figures measures={[...comparison.measures, ...comparison.knowledge]} label={t.report.figures} />
      {comparison.system_prompt && (
        <Text size="sm" c="dimmed">
          {t.report.promptUsed(comparison.example_rows.length)} {comparison.system_prompt}
        </Text>
      )}
      {comparison.worst.length > 0 && (
        <details className={classes.more}>
          <summary>{t.report.worst(comparison.worst.length)}</summary>
          <Text size="sm" c="dimmed">
            {t.report.worstHint(
              format.number(comparison.answered_rows),
              format.number(comparison.rows_in_all),
              format.number(comparison.max_new_tokens),
            )}
          </Text>
          <ul className={classes.rows}>
            {comparison.worst.map((row) => (
              <Answers key={row.row} row={row} />
            ))}
          </ul>
        </details>
      )}
      {comparison.facts.length > 0 && (
        <details className={classes.more}>
          <summary>{t.report.forgotten}</summary>
          <Text size="sm" c="dimmed">
            {t.report.forgottenHint}
          </Text>
          <Facts facts={comparison.facts} />
        </details>
      )}
      <Text size="sm">
        <Anchor href={reportPagePath(jobId, language)} target="_blank" rel="noopener">
          {t.report.page}
        </Anchor>
        {" · "}
        <Anchor href={reportJsonPath(jobId)} download={`report-${jobId}.json`}>
          {t.report.json}
        </Anchor>
      </Text>
    </div>
  );
}
