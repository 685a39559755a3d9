import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { render, screen } from "@testing-library/react";
import { expect, test } from "vitest";
import { createClient } from "@/app/App";
import { SpeechProvider } from "@/app/SpeechProvider";
import { Figures } from "@/components/ReportCard/Figures";
import { Verdict } from "@/components/ReportCard/Verdict";
import type { Comparison } from "@/types/api";

const comparison: Comparison = {
  verdict: "better",
  summary: "The trained model is better.",
  remarks: [
    { code: "prompt_weaker", message: "A prompt alone does less.", hint: "" },
    { code: "forgotten", message: "The model forgot something.", hint: "" },
  ],
  rows_in_all: 20,
  measured_rows: 20,
  answered_rows: 20,
  max_new_tokens: 64,
  system_prompt: null,
  example_rows: [],
  measures: [
    {
      name: "loss",
      label: "Loss",
      rows: 20,
      base: 3.67,
      prompted: null,
      tuned: 0.28,
      change: -3.39,
      low: -3.7,
      high: -3.1,
      share: false,
      verdict: "better",
    },
  ],
  knowledge: [],
  worst: [],
  facts: [],
  seconds: 30,
};

test("what was forgotten is a warning of its own, not a line of the good news", () => {
  render(
    <MantineProvider>
      <Verdict comparison={comparison} />
    </MantineProvider>,
  );
  const tone = (text: string) => screen.getByText(text).closest("[data-tone]")?.getAttribute("data-tone");
  expect(tone("The trained model is better.")).toBe("good");
  expect(tone("A prompt alone does less.")).toBe("good");
  expect(tone("The model forgot something.")).toBe("warn");
});

test("each figure carries the heading that a narrow screen shows beside it", async () => {
  render(
    <MantineProvider>
      <QueryClientProvider client={createClient()}>
        <SpeechProvider>
          <Figures measures={comparison.measures} label="Figures" />
        </SpeechProvider>
      </QueryClientProvider>
    </MantineProvider>,
  );
  expect((await screen.findByText("0.280")).dataset.label).toBe("Trained");
  expect(screen.getByText("39.3").dataset.label).toBe("Original");
});
