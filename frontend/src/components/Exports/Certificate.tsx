import { Table, Text } from "@mantine/core";
import { useMessages } from "@/hooks/useMessages";
import type { Certificate as CertificateRead } from "@/types/api";
import classes from "./Exports.module.css";

const KL_DIGITS = 5;

/** How each engine that loaded the files back answers beside the trained model. */
export function Certificate({ certificate }: { certificate: CertificateRead }) {
  const { t, format } = useMessages();
  const { prompts } = certificate;
  return (
    <div data-testid="certificate">
      {/* A region that scrolls has to be reachable by keyboard. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className={classes.figures} tabIndex={0} role="group" aria-label={t.exports.certificate}>
        <Table verticalSpacing={4} fz="sm">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t.exports.engine}</Table.Th>
              <Table.Th ta="right">{t.exports.top1}</Table.Th>
              <Table.Th ta="right">{t.exports.kl}</Table.Th>
              <Table.Th ta="right">{t.exports.places}</Table.Th>
              <Table.Th ta="right">{t.exports.speed}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {certificate.agreements.map((row) => (
              <Table.Tr key={`${row.engine} ${row.arithmetic}`}>
                <Table.Td>
                  {row.engine}, {row.arithmetic}
                </Table.Td>
                <Table.Td ta="right" fw={row.within_bounds ? undefined : 700}>
                  {format.number(row.top1 * 100, 2)} %
                </Table.Td>
                <Table.Td ta="right">{format.number(row.kl, KL_DIGITS)}</Table.Td>
                <Table.Td ta="right">{format.number(row.positions)}</Table.Td>
                <Table.Td ta="right">{row.tokens_per_second === null ? "–" : format.number(row.tokens_per_second, 0)}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </div>
      <Text size="sm" c="dimmed" mt={4}>
        {certificate.row_source === "heldout" ? t.exports.onHeldout(certificate.rows) : t.exports.onTraining(certificate.rows)}
        {prompts && ` ${t.exports.prompts(prompts.equal, prompts.compared)}`}
        {certificate.notices.map((notice) => ` ${notice.message}`)}
      </Text>
    </div>
  );
}
