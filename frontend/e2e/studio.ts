/** A real server with a data folder of its own, and a page that must not report an error. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { test as base, expect, type Page } from "@playwright/test";

const FRONTEND = join(dirname(fileURLToPath(import.meta.url)), "..");
const ROOT = join(FRONTEND, "..");
const SCREENS = join(FRONTEND, "test-results", "screens");
const START_MS = 60_000;

/** Folders in here may be added as models of one's own. */
export const MODEL_ROOT = mkdtempSync(join(tmpdir(), "affinage-models-"));

export const HELPDESK = join(ROOT, "backend", "app", "assets", "helpdesk.csv");

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => (address && typeof address === "object" ? resolve(address.port) : reject(new Error("no port"))));
    });
  });
}

async function waitUntilHealthy(url: string, server: ChildProcess, log: () => string): Promise<void> {
  const end = Date.now() + START_MS;
  while (Date.now() < end) {
    if (server.exitCode !== null) break;
    const answer = await fetch(`${url}/api/health`).catch(() => undefined);
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`The server did not start.\n${log()}`);
}

/** A trainer outlives its server, so whatever still runs is cancelled first. */
async function cancelAll(url: string): Promise<void> {
  const { jobs } = (await (await fetch(`${url}/api/jobs`)).json()) as { jobs: { job_id: string; finished_at: string | null }[] };
  for (const job of jobs.filter(({ finished_at }) => finished_at === null)) {
    await fetch(`${url}/api/jobs/${job.job_id}/cancel`, { method: "POST" });
  }
}

export const test = base.extend<{ quiet: undefined }, { studio: string }>({
  studio: [
    async ({}, use) => {
      expect(existsSync(join(FRONTEND, "dist", "index.html")), "build the page first: make page").toBe(true);
      const data = mkdtempSync(join(tmpdir(), "affinage-e2e-"));
      const port = await freePort();
      const url = `http://localhost:${port}`;
      const command = process.env.AFFINAGE ?? join(ROOT, ".venv", "bin", "affinage");
      let log = "";
      const server = spawn(command, ["serve", "--port", String(port)], {
        cwd: ROOT,
        env: { ...process.env, AFFINAGE_DATA_DIR: data, AFFINAGE_MODEL_ROOTS: MODEL_ROOT, HF_HUB_OFFLINE: "1" },
      });
      server.stdout.on("data", (chunk: Buffer) => (log += chunk.toString()));
      server.stderr.on("data", (chunk: Buffer) => (log += chunk.toString()));
      try {
        await waitUntilHealthy(url, server, () => log);
        await use(url);
        await cancelAll(url);
      } finally {
        const ended = new Promise((resolve) => server.once("exit", resolve));
        server.kill("SIGTERM");
        if (server.exitCode === null) await ended;
        rmSync(data, { recursive: true, force: true });
      }
    },
    { scope: "worker", timeout: START_MS + 60_000 },
  ],
  baseURL: async ({ studio }, use) => use(studio),
  /** Every test fails when the page logs an error: a broken content security policy shows up here. */
  quiet: [
    async ({ page }, use) => {
      const errors: string[] = [];
      page.on("pageerror", (error) => errors.push(error.message));
      page.on("console", (message) => {
        if (message.type() === "error" && !/Failed to load resource/.test(message.text())) errors.push(message.text());
      });
      await use(undefined);
      expect(errors).toEqual([]);
    },
    { auto: true },
  ],
});

/** A plan for a model that was never traced waits for the tracing process to start; the machine may be busy. */
export const PLAN_MS = 120_000;

/** Imports the sample as a data set and returns its id. */
export async function addDataset(studio: string): Promise<string> {
  const form = new FormData();
  form.append("file", new Blob([readFileSync(HELPDESK)]), "helpdesk.csv");
  const answer = await fetch(`${studio}/api/datasets`, { method: "POST", body: form });
  return ((await answer.json()) as { dataset_id: string }).dataset_id;
}

/** Keeps a picture for the closing note, and checks that nothing sticks out to the side. */
export async function picture(page: Page, name: string): Promise<void> {
  mkdirSync(SCREENS, { recursive: true });
  await page.screenshot({ path: join(SCREENS, `${name}.png`), fullPage: true });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(overflow, `${name} is wider than the window`).toBeLessThanOrEqual(0);
}

export { expect };
