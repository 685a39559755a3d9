import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import { mergeJobs } from "@/lib/progress";
import { open } from "./render";
import { job, jobDetail, serve } from "./server";

const COUNT = 230;
const jobs = Array.from({ length: COUNT }, (_, at) => job({ job_id: `job-${COUNT - at}`, name: `Training ${COUNT - at}`, status: "succeeded" }));

/** As the server does: newest first, at most `limit`, from the one after `after` on. */
function page(path: string) {
  const asked = new URL(path, "http://localhost").searchParams;
  const begin = asked.has("after") ? jobs.findIndex(({ job_id }) => job_id === asked.get("after")) + 1 : 0;
  return { jobs: jobs.slice(begin, begin + Number(asked.get("limit") ?? 100)) };
}

test("every job is listed once, the newest at first and the others as they are asked for", async () => {
  serve({
    "GET /api/jobs": (_body: unknown, path: string) => page(path),
    "GET /api/jobs/job-230": jobDetail(job({ job_id: "job-230" })),
    "GET /api/jobs/job-230/metrics": { name: "loss", steps: [], values: [] },
  });
  open("/dashboard?job=job-230");
  // Not by role: the names of hundreds of links take this browser seconds.
  const names = () => [...document.querySelectorAll('nav[aria-label="Trainings"] a')].map((link) => /\d+/.exec(link.textContent)?.[0]);
  const older = await screen.findByText("Show older ones");
  expect(names()).toHaveLength(100);
  for (const count of [200, 230]) {
    await userEvent.click(older);
    await waitFor(() => expect(names()).toHaveLength(count));
  }
  expect(screen.queryByText("Show older ones")).toBeNull();
  expect(names()).toEqual(jobs.map(({ job_id }) => job_id.slice("job-".length)));
});

test("jobs that began after the pages were read come first, and what runs is as it is now", () => {
  const read = [job({ job_id: "b", status: "running" }), job({ job_id: "a", status: "succeeded" })];
  const now = [job({ job_id: "c", status: "queued" }), job({ job_id: "b", status: "succeeded" })];
  expect(mergeJobs(now, read).map(({ job_id, status }) => [job_id, status])).toEqual([["c", "queued"], ["b", "succeeded"], ["a", "succeeded"]]);
});
