import { Select, Table, Text } from "@mantine/core";
import { skipToken, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { jobQuery, jobsQuery, reportQuery } from "@/api/jobs";
import { Panel } from "@/components/Panel";
import { useMessages } from "@/hooks/useMessages";
import { showOption } from "@/lib/optionText";
import type { JobDetail, Report } from "@/types/api";

interface Line {
  label: string;
  own: string;
  other: string;
}

const LOSS_DIGITS = 3;

/** Reads a report only where there is one. */
function useReport(jobId: string | null, done: boolean): Report | undefined {
  const options = reportQuery(jobId ?? "");
  return useQuery({ ...options, queryFn: jobId && done ? options.queryFn : skipToken }).data;
}

/** This job beside another one: the settings in which they differ, and what came of each. */
export function CompareJobs({ job }: { job: JobDetail }) {
  const { t, format } = useMessages();
  const [chosen, choose] = useState<string | null>(null);
  const { data: jobs } = useQuery(jobsQuery);
  const options = jobQuery(chosen ?? "");
  const { data: other } = useQuery({ ...options, queryFn: chosen ? options.queryFn : skipToken });
  const own = useReport(job.job_id, job.status === "succeeded");
  const theirs = useReport(chosen, other?.status === "succeeded");
  const others = (jobs ?? []).filter(({ job_id }) => job_id !== job.job_id);
  if (others.length === 0) return null;

  const lines: Line[] = [];
  if (other) {
    const show = (value: unknown): string => showOption(value, t, format.small);
    const loss = (value: number | null | undefined): string => (typeof value === "number" ? format.number(value, LOSS_DIGITS) : "–");
    const add = (label: string, first: string, second: string, always = false): void => {
      if (always || first !== second) lines.push({ label, own: first, other: second });
    };
    add(t.compare.model, job.model_name, other.model_name);
    add(t.compare.data, job.dataset_name, other.dataset_name);
    for (const [name, value] of Object.entries(job.plan.resolved)) {
      const label = name in t.options ? t.options[name as keyof typeof t.options] : name;
      add(label, show(value.value), show(other.plan.resolved[name]?.value));
    }
    add(t.report.trainLoss, loss(own?.train_loss_last), loss(theirs?.train_loss_last), true);
    add(t.compare.before, loss(own?.loss_before), loss(theirs?.loss_before), true);
    add(t.compare.after, loss(own?.loss_after), loss(theirs?.loss_after), true);
    for (const measure of own?.comparison?.measures ?? []) {
      const same = theirs?.comparison?.measures.find(({ name }) => name === measure.name);
      if (measure.share && same) add(measure.label, format.percent(measure.tuned), format.percent(same.tuned), true);
    }
    add(t.report.duration, own ? format.duration(own.seconds) : "–", theirs ? format.duration(theirs.seconds) : "–", true);
  }
  return (
    <Panel title={t.compare.title} hint={t.compare.hint}>
      <Select
        aria-label={t.compare.choose}
        placeholder={t.compare.choose}
        searchable
        clearable
        value={chosen}
        onChange={choose}
        data={others.map(({ job_id, name, created_at }) => ({ value: job_id, label: `${name} · ${format.dateTime(created_at)}` }))}
      />
      {other && (
        // A region that scrolls has to be reachable by keyboard.
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <div style={{ overflowX: "auto" }} tabIndex={0} role="group" aria-label={t.compare.title}>
          <Table verticalSpacing={4} fz="sm" mt="sm" data-testid="compared-jobs">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>{t.job.option}</Table.Th>
                <Table.Th>{t.compare.own}</Table.Th>
                <Table.Th>{t.compare.other}</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {lines.map((line) => (
                <Table.Tr key={line.label}>
                  <Table.Td>{line.label}</Table.Td>
                  <Table.Td className="wrap">{line.own}</Table.Td>
                  <Table.Td className="wrap">{line.other}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
          {job.dataset_id !== other.dataset_id && (
            <Text size="sm" c="dimmed">
              {t.compare.otherRows}
            </Text>
          )}
        </div>
      )}
    </Panel>
  );
}
