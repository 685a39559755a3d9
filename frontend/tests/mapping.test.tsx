import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import type { ColumnMapping, Dataset } from "@/types/api";
import { open } from "./render";
import { dataset, serve } from "./server";

/** As the import finds `query`, `context`, `response` and `history`: the shape that has the most parts unlike its name. */
const mapping: ColumnMapping = { shape: "prompt_completion", instruction: "query", input: "context", output: "response", history: "history" };
const proposed: Dataset = {
  ...dataset,
  shape: "prompt_completion",
  columns: ["query", "context", "response", "history"],
  mapping,
  confirmed: false,
};

test("a proposal is confirmed with every part that the import found", async () => {
  const asked = serve({
    "GET /api/datasets": { datasets: [proposed] },
    "GET /api/datasets/ds-1": proposed,
    "GET /api/datasets/ds-1/rows": { rows: [], total: 0, offset: 0 },
    "POST /api/datasets/ds-1/mapping/preview": { rows: [], total: 0, offset: 0 },
    "GET /api/datasets/ds-1/analysis": { state: "running", done_bytes: 0, total_bytes: 0, rows: 0, seconds: 0, languages: {}, findings: [] },
    "GET /api/datasets/ds-1/versions": { datasets: [proposed] },
    "GET /api/models/available": { models: [] },
    "PUT /api/datasets/ds-1/mapping": { ...proposed, confirmed: true },
  });
  open("/datasets/ds-1");
  await userEvent.click(await screen.findByRole("button", { name: "Confirm this reading" }));
  await waitFor(() => expect(asked.find(({ method }) => method === "PUT")?.body).toMatchObject(mapping));
});
