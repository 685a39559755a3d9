import { Table } from "@mantine/core";
import { Fragment } from "react";
import { useMessages } from "@/hooks/useMessages";
import type { Measured } from "@/types/api";
import classes from "./ReportCard.module.css";

const LOSS_DIGITS = 3;
const PERPLEXITY_DIGITS = 1;
/** Beyond it the exponential is no number. */
const MOST_LOSS = 700;

/** Each measure of the original and the trained model, with the interval of their difference. */
export function Figures({ measures, label }: { measures: Measured[]; label: string }) {
  const { t, format } = useMessages();
  const show = (measure: Measured, value: number | null): string =>
    value === null ? "–" : measure.share ? format.percent(value) : format.number(value, LOSS_DIGITS);
  const signed = (measure: Measured, value: number): string => (value > 0 ? "+" : "") + show(measure, value);
  const perplexity = (loss: number): string => format.number(Math.exp(Math.min(loss, MOST_LOSS)), PERPLEXITY_DIGITS);
  const prompted = measures.some((measure) => measure.prompted !== null);
  return (
    // A region that scrolls has to be reachable by keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className={classes.figures} tabIndex={0} role="group" aria-label={label}>
      <Table verticalSpacing={4} fz="sm">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t.report.measure}</Table.Th>
            <Table.Th ta="right">{t.report.rows}</Table.Th>
            <Table.Th ta="right">{t.report.base}</Table.Th>
            {prompted && <Table.Th ta="right">{t.report.prompted}</Table.Th>}
            <Table.Th ta="right">{t.report.tuned}</Table.Th>
            <Table.Th ta="right">{t.report.interval}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {measures.map((measure, place) => (
            // The loss comes twice: of the rows, and of the general questions.
            <Fragment key={place}>
              <Table.Tr>
                <Table.Td>{measure.label}</Table.Td>
                <Table.Td data-label={t.report.rows}>{format.number(measure.rows)}</Table.Td>
                <Table.Td data-label={t.report.base}>{show(measure, measure.base)}</Table.Td>
                {prompted && <Table.Td data-label={t.report.prompted}>{show(measure, measure.prompted)}</Table.Td>}
                <Table.Td data-label={t.report.tuned} fw={650}>
                  {show(measure, measure.tuned)}
                </Table.Td>
                <Table.Td data-label={t.report.interval} className={classes.interval} data-verdict={measure.verdict}>
                  {signed(measure, measure.low)} … {signed(measure, measure.high)}
                </Table.Td>
              </Table.Tr>
              {place === 0 && (
                <Table.Tr>
                  <Table.Td>{t.report.perplexity}</Table.Td>
                  <Table.Td data-label={t.report.rows}>{format.number(measure.rows)}</Table.Td>
                  <Table.Td data-label={t.report.base}>{perplexity(measure.base)}</Table.Td>
                  {prompted && <Table.Td data-label={t.report.prompted}>–</Table.Td>}
                  <Table.Td data-label={t.report.tuned} fw={650}>
                    {perplexity(measure.tuned)}
                  </Table.Td>
                  <Table.Td />
                </Table.Tr>
              )}
            </Fragment>
          ))}
        </Table.Tbody>
      </Table>
    </div>
  );
}
