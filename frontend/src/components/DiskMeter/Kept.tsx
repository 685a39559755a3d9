import { Link } from "@tanstack/react-router";
import { useDeleteCheckpoints, useDeleteJob, useDeleteWeights } from "@/api/disk";
import { ConfirmButton } from "@/components/ConfirmButton";
import { ErrorNotice } from "@/components/ErrorNotice";
import { useMessages } from "@/hooks/useMessages";
import type { Disk } from "@/types/api";
import classes from "./DiskMeter.module.css";

/** Weights that the studio keeps; those that a job needs now cannot go. */
export function KeptModels({ models }: { models: Disk["models"] }) {
  const { t, format } = useMessages();
  const drop = useDeleteWeights();
  if (models.length === 0) return null;
  return (
    <section>
      <h3 className={classes.title}>{t.disk.parts.models}</h3>
      {drop.error && <ErrorNotice error={drop.error} />}
      <ul className={classes.list}>
        {models.map((model) => (
          <li key={model.model_id} className={classes.item}>
            <span className={classes.name}>{model.model_id}</span>
            <span className={classes.size}>{format.bytes(model.bytes)}</span>
            <ConfirmButton
              size="compact-xs"
              disabled={model.running_jobs > 0}
              question={t.disk.deleteWeights(model.model_id)}
              hint={t.disk.deleteWeightsHint(model.finished_jobs)}
              confirm={t.disk.delete}
              onConfirm={() => drop.mutate(model.model_id)}
            >
              {model.running_jobs > 0 ? t.disk.inUse : t.disk.delete}
            </ConfirmButton>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** The largest jobs: their checkpoints, or all of them, can go once they have ended. */
export function KeptJobs({ jobs }: { jobs: Disk["jobs"] }) {
  const { t, format } = useMessages();
  const checkpoints = useDeleteCheckpoints();
  const whole = useDeleteJob();
  const error = checkpoints.error ?? whole.error;
  if (jobs.length === 0) return null;
  return (
    <section>
      <h3 className={classes.title}>{t.disk.largestJobs}</h3>
      {error && <ErrorNotice error={error} />}
      <ul className={classes.list}>
        {jobs.map((job) => (
          <li key={job.job_id} className={classes.item}>
            <span className={classes.name}>
              <Link to="/jobs/$jobId" params={{ jobId: job.job_id }}>
                {job.name}
              </Link>
            </span>
            <span className={classes.size}>{format.bytes(job.bytes)}</span>
            {job.deletable && job.checkpoint_bytes > 0 && (
              <ConfirmButton
                size="compact-xs"
                question={t.disk.deleteCheckpoints}
                hint={t.disk.deleteCheckpointsHint}
                confirm={t.disk.delete}
                onConfirm={() => checkpoints.mutate(job.job_id)}
              >
                {t.disk.checkpointsOf(format.bytes(job.checkpoint_bytes))}
              </ConfirmButton>
            )}
            {job.deletable && (
              <ConfirmButton
                size="compact-xs"
                question={t.disk.deleteJob}
                hint={t.disk.deleteJobHint}
                confirm={t.disk.delete}
                onConfirm={() => whole.mutate(job.job_id)}
              >
                {t.disk.wholeJob}
              </ConfirmButton>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}
