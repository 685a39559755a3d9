import { Button } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useStartJob } from "@/api/jobs";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import type { JobDetail } from "@/types/api";

/** Starts a job with the very same request, and leads to it. */
export function RunAgain({ request }: { request: JobDetail["request"] }) {
  const { t } = useMessages();
  const navigate = useNavigate();
  const start = useStartJob();
  return (
    <>
      <Button
        variant="default"
        leftSection={<Icon name="undo" size={16} />}
        loading={start.isPending}
        onClick={() =>
          start.mutate(request as Parameters<typeof start.mutate>[0], {
            onSuccess: ({ job_id }) => void navigate({ to: "/dashboard", search: { job: job_id } }),
          })
        }
      >
        {t.job.again}
      </Button>
      {start.error && <ErrorNotice error={start.error} />}
    </>
  );
}
