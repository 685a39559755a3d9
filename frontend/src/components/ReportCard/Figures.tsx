import { Table } from "@mantine/core";
import { useMessages } from "@/hooks/useMessages";
import type { Measured } from "@/types/api";
import classes from "./ReportCard.module.css";

const LOSS_DIGITS = 3;

/** Each measure of the original and the trained model, with the interval of their difference. */
export function Figures({ measures, label }: { measures: Measured[]; label: string }) {
  const { t, format } = useMessages();
  const show = (measure: Measured, value: number | null): string =>
    value === null ? "–" : measure.share ? format.percent(value) : format.number(value, LOSS_DIGITS);
  const signed = (measure: Measured, value: number): string => (value > 0 ? "+" : "") + show(measure, value);
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
          {measures.map((measure) => (
            <Table.Tr key={measure.name}>
              <Table.Td>{measure.label}</Table.Td>
              <Table.Td ta="right">{format.number(measure.rows)}</Table.Td>
              <Table.Td ta="right">{show(measure, measure.base)}</Table.Td>
              {prompted && <Table.Td ta="right">{show(measure, measure.prompted)}</Table.Td>}
              <Table.Td ta="right" fw={650}>
                {show(measure, measure.tuned)}
              </Table.Td>
              <Table.Td ta="right" className={classes.interval} data-verdict={measure.verdict}>
                {signed(measure, measure.low)} … {signed(measure, measure.high)}
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </div>
  );
}
