import { Box, Button, Group, Loader, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { hardwareQuery, useCalibrate } from "@/api/system";
import { Callout } from "@/components/Callout";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Facts, type Fact } from "@/components/Facts";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";

/** How fast this machine was measured to be, and the button that measures it. */
export function Calibration() {
  const { t, format } = useMessages();
  const { data } = useQuery(hardwareQuery);
  const calibrate = useCalibrate();
  const found = data?.calibration;
  const rate = (value: number | null, label: string): Fact[] =>
    value === null ? [] : [{ label, value: t.calibration.gflops(format.number(value)) }];

  return (
    <div>
      {found ? (
        <Facts
          wide
          facts={[
            { label: t.calibration.measuredAt, value: format.dateTime(found.measured_at), hint: t.calibration.took(format.duration(found.seconds)) },
            ...rate(found.half_gflops, t.calibration.half),
            ...rate(found.full_gflops, t.calibration.full),
            { label: t.calibration.bandwidth, value: t.calibration.gigabytes(format.number(found.bandwidth_gb, 1)) },
            ...(found.step_factor === null
              ? []
              : [{ label: t.calibration.step, value: t.calibration.times(format.number(found.step_factor, 2)), hint: t.calibration.stepHint }]),
          ]}
        />
      ) : (
        <Text>{t.calibration.none}</Text>
      )}
      {found?.notice && (
        <Box mt="md">
          <Callout tone="warn" role="status" title={found.notice.message}>
            {found.notice.hint}
          </Callout>
        </Box>
      )}
      <Group mt="md" gap="sm">
        <Button
          variant={found ? "default" : "filled"}
          leftSection={calibrate.isPending ? <Loader size={14} aria-hidden="true" /> : <Icon name="gauge" />}
          disabled={calibrate.isPending}
          onClick={() => calibrate.mutate()}
        >
          {found ? t.calibration.again : t.calibration.start}
        </Button>
        <Text size="sm" c="dimmed" role="status">
          {calibrate.isPending ? t.calibration.running : t.calibration.hint}
        </Text>
      </Group>
      {calibrate.error && (
        <Group mt="md">
          <ErrorNotice error={calibrate.error} onRetry={() => calibrate.mutate()} />
        </Group>
      )}
    </div>
  );
}
