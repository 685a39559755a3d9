import { existsSync } from "node:fs";
import { defineConfig } from "@playwright/test";

/** CHROMIUM_PATH, else Debian's package, else the browser that Playwright downloaded. */
const DEBIAN = "/usr/bin/chromium";
const executablePath = process.env.CHROMIUM_PATH ?? (existsSync(DEBIAN) ? DEBIAN : undefined);

export default defineConfig({
  testDir: "e2e",
  outputDir: "test-results/run",
  // One machine trains one model at a time.
  workers: 1,
  timeout: 900_000,
  expect: { timeout: 20_000 },
  reporter: [["list"]],
  use: {
    locale: "en-GB",
    viewport: { width: 1440, height: 900 },
    launchOptions: { args: ["--no-sandbox"], ...(executablePath && { executablePath }) },
    screenshot: "only-on-failure",
  },
});
