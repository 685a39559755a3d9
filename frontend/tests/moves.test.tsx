import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test } from "vitest";
import { countAhead } from "@/lib/progress";
import type { Job } from "@/types/api";
import { open, violations } from "./render";
import { job, jobDetail, plan, serve } from "./server";

const answersFor = (shown: Job, others: Job[] = []) => ({
  "GET /api/jobs": { jobs: [shown, ...others] },
  [`GET /api/jobs/${shown.job_id}`]: jobDetail(shown),
  [`GET /api/jobs/${shown.job_id}/metrics`]: { name: "loss", steps: [], values: [] },
  [`GET /api/jobs/${shown.job_id}/checkpoints`]: {
    checkpoints: [
      { name: "checkpoint-60", step: 60, size_bytes: 9, whole: false, best: false, kept_for: [] },
      { name: "checkpoint-40", step: 40, size_bytes: 9, whole: true, best: true, kept_for: [] },
    ],
  },
  [`POST /api/jobs/${shown.job_id}/pause`]: shown,
  [`POST /api/jobs/${shown.job_id}/resume`]: shown,
  [`PUT /api/jobs/${shown.job_id}/priority`]: shown,
  "POST /api/start-finetuning": { job_id: "job-2", status: "queued", plan, warnings: [] },
});

describe("what a person may do with a job", () => {
  test("a running one is paused, a paused one resumed", async () => {
    for (const [status, button, move] of [["running", "Pause", "pause"], ["paused", "Resume", "resume"]] as const) {
      const asked = serve(answersFor(job({ status })));
      const page = open("/dashboard?job=job-1");
      await userEvent.click(await screen.findByRole("button", { name: button }));
      await waitFor(() => expect(asked.some(({ path }) => path === `/api/jobs/job-1/${move}`)).toBe(true));
      expect(await violations()).toEqual([]);
      page.unmount();
    }
  });

  test("one that waits behind others is moved to the front", async () => {
    const asked = serve(answersFor(job({ status: "queued" }), [job({ job_id: "job-0", status: "queued" })]));
    open("/dashboard?job=job-1");
    await screen.findAllByText("One other training starts before this one.");
    await userEvent.click(await screen.findByRole("button", { name: "Start next" }));
    await waitFor(() => expect(asked.find(({ path }) => path.endsWith("/priority"))?.body).toEqual({ priority: "next" }));
  });

  test("one that was cancelled is continued from its newest whole checkpoint by a new one", async () => {
    const asked = serve(answersFor(job({ status: "cancelled" })));
    open("/dashboard?job=job-1");
    await userEvent.click(await screen.findByRole("button", { name: "Go on from step 40" }));
    await waitFor(() =>
      expect(asked.find(({ path }) => path === "/api/start-finetuning")?.body).toEqual({
        dataset_id: "ds-1",
        model_name: "gpt2",
        resume_from: { job_id: "job-1", checkpoint: "checkpoint-40" },
      }),
    );
  });
});

test("jobs of a higher priority and older ones of the same start earlier", () => {
  const queued = (id: string, priority: number) => job({ job_id: id, status: "queued", priority });
  const jobs = [queued("newest", 0), queued("urgent", 3), job({ job_id: "runs" }), queued("oldest", 0)];
  const waiting = jobs.filter(({ status }) => status === "queued");
  expect(waiting.map((one) => countAhead(jobs, one))).toEqual([2, 0, 1]);
});

test("the duration of a paused training stands still, without the time of its pause", async () => {
  const paused = job({ status: "paused", started_at: "2026-11-22T10:00:01.000Z" });
  serve({ ...answersFor(paused), "GET /api/jobs/job-1": jobDetail(paused, { worked_seconds: 95 }) });
  open("/dashboard?job=job-1");
  const label = await screen.findByText("Duration");
  expect(label.parentElement?.textContent).toMatch(/1\smin\s35\ss/);
});
