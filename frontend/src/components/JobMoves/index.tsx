import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { checkpointsQuery, queuedQuery, useContinueJob, useMoveJob } from "@/api/jobs";
import { ConfirmButton } from "@/components/ConfirmButton";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import { canCancel, canContinue, canPause, countAhead } from "@/lib/progress";
import type { Job } from "@/types/api";

/** What a person may do with a job where it stands: pause, resume, start next, cancel, go on from a checkpoint. */
export function JobMoves({ job }: { job: Job }) {
  const { t } = useMessages();
  const move = useMoveJob(job.job_id);
  const { data: waiting = [] } = useQuery({ ...queuedQuery, enabled: job.status === "queued" });
  const busy = (name: string): boolean => move.isPending && move.variables === name;

  return (
    <>
      {move.error && <ErrorNotice error={move.error} />}
      {job.status === "queued" && countAhead(waiting, job) > 0 && (
        <Button variant="default" leftSection={<Icon name="first" />} loading={busy("next")} onClick={() => move.mutate("next")}>
          {t.jobs.startNext}
        </Button>
      )}
      {canPause(job.status) && (
        <Button variant="default" leftSection={<Icon name="pause" />} loading={busy("pause")} onClick={() => move.mutate("pause")}>
          {t.jobs.pause}
        </Button>
      )}
      {job.status === "paused" && (
        <Button leftSection={<Icon name="play" />} loading={busy("resume")} onClick={() => move.mutate("resume")}>
          {t.jobs.resume}
        </Button>
      )}
      {canContinue(job.status) && <ContinueButton job={job} />}
      {canCancel(job.status) && (
        <ConfirmButton
          leftSection={<Icon name="stop" />}
          question={t.jobs.cancelAsk}
          hint={t.jobs.cancelHint}
          confirm={t.jobs.cancelJob}
          refuse={t.jobs.keepGoing}
          loading={busy("cancel")}
          onConfirm={() => move.mutate("cancel")}
        >
          {t.jobs.cancelJob}
        </ConfirmButton>
      )}
    </>
  );
}

/** A job that failed or was cancelled stays as it ended: a new one goes on from its newest whole checkpoint. */
function ContinueButton({ job }: { job: Job }) {
  const { t, format } = useMessages();
  const navigate = useNavigate();
  const { data: checkpoints = [] } = useQuery(checkpointsQuery(job.job_id));
  const proceed = useContinueJob(job);
  const newest = checkpoints.find((checkpoint) => checkpoint.whole);
  if (!newest) return null;
  const open = (jobId: string) => void navigate({ to: "/dashboard", search: { job: jobId } });
  return (
    <>
      {proceed.error && <ErrorNotice error={proceed.error} />}
      <Button
        leftSection={<Icon name="play" />}
        loading={proceed.isPending}
        onClick={() => proceed.mutate(newest.name, { onSuccess: (started) => open(started.job_id) })}
      >
        {t.jobs.continueFrom(format.number(newest.step))}
      </Button>
    </>
  );
}
