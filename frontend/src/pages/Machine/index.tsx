import { Skeleton, Stack } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { hardwareQuery } from "@/api/system";
import { Calibration } from "@/components/Calibration";
import { DiskMeter } from "@/components/DiskMeter";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Facts } from "@/components/Facts";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { PlannerRecord } from "@/components/PlannerRecord";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";

/** What trainings run on, how fast it is, and how right the plans for it were. */
export function Machine() {
  const { t, format } = useMessages();
  const { data, error, refetch } = useQuery(hardwareQuery);
  useDocumentTitle(t.machine.title);
  return (
    <>
      <PageHeader title={t.machine.title} lead={t.machine.lead} />
      <Stack gap="md">
        <Panel title={t.machine.devices}>
          {error && !data && <ErrorNotice error={error} onRetry={() => void refetch()} />}
          {!data && !error && <Skeleton height={90} radius="md" aria-label={t.app.loading} />}
          {data && (
            <Facts
              wide
              facts={[
                ...data.devices.map((device) => ({
                  label: device.kind === "cuda" ? t.machine.gpu : t.machine.cpu,
                  value: device.name,
                  hint: t.machine.memory(format.bytes(device.memory_free_bytes), format.bytes(device.memory_total_bytes)),
                })),
                { label: t.machine.disk, value: format.bytes(data.disk_free_bytes), hint: t.machine.diskFree },
              ]}
            />
          )}
        </Panel>
        <Panel title={t.disk.title} hint={t.disk.lead}>
          <DiskMeter />
        </Panel>
        <Panel title={t.calibration.title} hint={t.calibration.lead}>
          <Calibration />
        </Panel>
        <Panel title={t.record.title} hint={t.record.lead}>
          <PlannerRecord />
        </Panel>
      </Stack>
    </>
  );
}
