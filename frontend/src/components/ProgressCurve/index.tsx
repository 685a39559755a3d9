import { useComputedColorScheme } from "@mantine/core";
import { useElementSize } from "@mantine/hooks";
import { useEffect, useRef } from "react";
import uPlot, { type AlignedData, type Options } from "uplot";
import "uplot/dist/uPlot.min.css";
import { useMessages, type Speech } from "@/hooks/useMessages";
import type { Series } from "@/lib/series";
import { align } from "./align";
import { CurveTable } from "./CurveTable";
import classes from "./ProgressCurve.module.css";

const HEIGHT = 260;

const color = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Decimals that tell neighbouring ticks apart. */
const decimals = (ticks: number[]): number => ((ticks[1] ?? 1) - (ticks[0] ?? 0) < 0.1 ? 2 : 1);

function chartOptions(width: number, { t, format }: Speech): Options {
  const axis = { stroke: color("--mantine-color-dimmed"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  const loss = (_: uPlot, value: number | null): string => (value === null ? "–" : format.number(value, 3));
  const step = (_: uPlot, value: number | null): string => (value === null ? "–" : format.number(value));
  const line = { spanGaps: true, points: { show: false }, value: loss };
  return {
    width,
    height: HEIGHT,
    scales: { x: { time: false } },
    axes: [
      { ...axis, size: 34, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? format.number(tick) : "")) },
      { ...axis, size: 48, values: (_, ticks) => ticks.map((tick) => format.number(tick, decimals(ticks))) },
    ],
    series: [
      { label: t.curve.step, value: step },
      { ...line, label: t.curve.training, stroke: color("--curve-faint"), width: 1.2 },
      { ...line, label: t.curve.smoothed, stroke: color("--curve-training"), width: 2.4 },
      {
        ...line,
        label: t.curve.heldout,
        stroke: color("--curve-heldout"),
        width: 2.2,
        dash: [7, 4],
        points: { show: true, size: 8, fill: color("--surface") },
      },
    ],
  };
}

/** Loss over steps: training and held-out rows. The same numbers follow as a sentence and as a table. */
export default function ProgressCurve({ training, heldout }: { training: Series; heldout: Series }) {
  const speech = useMessages();
  const scheme = useComputedColorScheme("light");
  const { ref, width } = useElementSize<HTMLDivElement>();
  const target = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const latest = useRef<AlignedData>([[], [], [], []]);
  const ready = width > 0;

  useEffect(() => {
    if (!ready || !target.current) return undefined;
    const chart = new uPlot(chartOptions(target.current.clientWidth, speech), latest.current, target.current);
    plot.current = chart;
    return () => {
      plot.current = undefined;
      chart.destroy();
    };
    // The scheme is not read here, but the colours are: a new scheme draws a new chart.
  }, [ready, scheme, speech]);

  useEffect(() => {
    latest.current = align(training, heldout);
    plot.current?.setData(latest.current);
  }, [training, heldout]);

  useEffect(() => {
    if (width > 0) plot.current?.setSize({ width, height: HEIGHT });
  }, [width]);

  return (
    <figure className={classes.figure}>
      <div ref={ref} className={classes.plot} aria-hidden="true">
        <div ref={target} />
      </div>
      <figcaption>
        <CurveTable training={training} heldout={heldout} />
      </figcaption>
    </figure>
  );
}
