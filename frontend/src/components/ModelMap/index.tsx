import { useElementSize } from "@mantine/hooks";
import { useMemo, useState } from "react";
import { FitBadge } from "@/components/FitBadge";
import { useMessages } from "@/hooks/useMessages";
import { showOption } from "@/lib/optionText";
import type { Recommendation } from "@/types/api";
import { placeModels, type Frame } from "./layout";
import { ModelTable } from "./ModelTable";
import { Plot, standing, STANDINGS } from "./Plot";
import classes from "./ModelMap.module.css";

const MARGINS = { left: 34, right: 14, top: 26, bottom: 38 };
const UNMEASURED_WIDTH = 620;

interface ModelMapProps {
  recommendation: Recommendation;
  chosen: string | undefined;
  onChoose: (id: string) => void;
}

/** Predicted time against quality for this data on this machine; memory is the size of a circle. A click chooses. */
export function ModelMap({ recommendation, chosen, onChoose }: ModelMapProps) {
  const { t, format } = useMessages();
  const { ref, width } = useElementSize<HTMLDivElement>();
  const [pointed, setPointed] = useState<string>();
  const { models } = recommendation;
  const frame = useMemo<Frame>(() => {
    const wide = width || UNMEASURED_WIDTH;
    return { ...MARGINS, width: wide, height: Math.round(Math.min(380, Math.max(270, wide * 0.62))) };
  }, [width]);
  const spots = useMemo(() => placeModels(models, chosen, frame), [models, chosen, frame]);
  const told = models.find(({ id }) => id === (pointed ?? chosen)) ?? models[0];
  const present = STANDINGS.filter((kind) => models.some((model) => standing(model) === kind));

  return (
    <figure className={classes.figure} data-testid="model-map">
      <div ref={ref} className={classes.area} role="radiogroup" aria-label={t.map.label} style={{ height: frame.height }}>
        <Plot models={models} spots={spots} frame={frame} chosen={chosen} pointed={pointed} />
        {[...spots]
          .sort((one, other) => one.x - other.x)
          .map(({ model, x, y, radius }) => (
            <input
              key={model.id}
              type="radio"
              name="model-map"
              className={classes.point}
              style={{ left: x - Math.max(radius, 12), top: y - Math.max(radius, 12), width: 2 * Math.max(radius, 12), zIndex: Math.round(40 - radius) }}
              aria-label={t.map.point(
                model.name,
                format.estimate(model.seconds_p50),
                format.number(model.quality, 1),
                format.bytes(model.peak_bytes),
                t.map.standings[standing(model)],
              )}
              checked={model.id === chosen}
              onChange={() => onChoose(model.id)}
              onPointerEnter={() => setPointed(model.id)}
              onPointerLeave={() => setPointed(undefined)}
              onFocus={() => setPointed(model.id)}
              onBlur={() => setPointed(undefined)}
            />
          ))}
      </div>
      <ul className={classes.legend}>
        {present.map((kind) => (
          <li key={kind} className={classes.spot} data-standing={kind}>
            <svg width={14} height={14} viewBox="-8 -8 16 16" aria-hidden="true">
              <circle className={classes.circle} r={6} />
            </svg>
            {t.map.standings[kind]}
          </li>
        ))}
        <li>{t.map.size}</li>
      </ul>
      {told && (
        <p className={classes.told} data-testid="told">
          <strong>{told.name}</strong>
          <FitBadge verdict={told.verdict} />
          <span className="numbers">
            {t.plan.timeRange(format.estimate(told.seconds_p50), format.estimate(told.seconds_p90))} · {format.bytes(told.peak_bytes)} ·{" "}
            {t.map.qualityValue(format.number(told.quality, 1), told.quality_source)}
          </span>
          <span className={classes.reason}>
            {told.reason}{" "}
            {t.map.plan(
              showOption(told.plan.quantization === "none" ? told.plan.dtype : told.plan.quantization, t, format.small),
              `${told.plan.batch_size} × ${told.plan.gradient_accumulation_steps}`,
              format.number(told.plan.max_length),
              told.plan.gradient_checkpointing,
            )}
          </span>
        </p>
      )}
      <details className={classes.details}>
        <summary>{t.curve.table}</summary>
        <ModelTable models={models} chosen={chosen} onChoose={onChoose} />
      </details>
    </figure>
  );
}
