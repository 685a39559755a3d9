import { useMessages } from "@/hooks/useMessages";
import type { RecommendedModel } from "@/types/api";
import { frontier, qualityTicks, timeTicks, type Frame, type Spot } from "./layout";
import classes from "./ModelMap.module.css";

const STAR = "M0-5.2l1.5 3.2 3.5.4-2.6 2.4.7 3.5L0 2.6l-3.1 1.7.7-3.5L-5-1.6l3.5-.4Z";

export const STANDINGS = ["first", "recommended", "dominated", "tight", "too_big"] as const;
type Standing = (typeof STANDINGS)[number];

/** How a model is drawn. Form tells it as well as colour: starred, full, hollow. */
export function standing(model: RecommendedModel): Standing {
  if (model.verdict !== "fits") return model.verdict === "tight" ? "tight" : "too_big";
  if (model.dominated) return "dominated";
  return model.rank === 1 ? "first" : "recommended";
}

interface PlotProps {
  models: RecommendedModel[];
  spots: Spot[];
  frame: Frame;
  chosen: string | undefined;
  pointed: string | undefined;
}

/** The drawing alone; the radio buttons above it are what one reaches and hears. */
export function Plot({ models, spots, frame, chosen, pointed }: PlotProps) {
  const { t, format } = useMessages();
  const floor = frame.height - frame.bottom;
  const line = frontier(spots);
  return (
    <svg className={classes.plot} width={frame.width} height={frame.height} aria-hidden="true" focusable="false">
      {qualityTicks(models, frame).map(({ at, value }) => (
        <g key={value}>
          <line className={classes.grid} x1={frame.left} x2={frame.width} y1={at} y2={at} />
          <text className={classes.tick} x={frame.left - 8} y={at} textAnchor="end" dominantBaseline="central">
            {format.number(value, Number.isInteger(value) ? 0 : 1)}
          </text>
        </g>
      ))}
      {timeTicks(models, frame).map(({ at, value }) => (
        <g key={value}>
          <line className={classes.grid} x1={at} x2={at} y1={frame.top} y2={floor} />
          <text className={classes.tick} x={at} y={floor + 16} textAnchor="middle">
            {format.estimate(value)}
          </text>
        </g>
      ))}
      <text className={classes.axis} x={frame.width} y={frame.height - 4} textAnchor="end">
        {t.map.time} →
      </text>
      <text className={classes.axis} x={2} y={11}>
        ↑ {t.map.quality}
      </text>
      {line.length > 1 && <polyline className={classes.frontier} points={line.map(({ x, y }) => `${x},${y}`).join(" ")} />}
      {[...spots]
        .sort((one, other) => other.radius - one.radius)
        .map(({ model, x, y, radius }) => (
          <g key={model.id} transform={`translate(${x} ${y})`} className={classes.spot} data-standing={standing(model)}>
            {model.id === chosen && <circle className={classes.ring} r={radius + 4} />}
            <circle className={classes.circle} r={radius} />
            {standing(model) === "first" && <path className={classes.star} d={STAR} />}
          </g>
        ))}
      {spots.map(({ model, x, y, radius, name }) => {
        const place = name ?? (model.id === pointed ? { x, y: y - radius - 10, anchor: "middle" as const } : undefined);
        return (
          place && (
            <text
              key={model.id}
              className={classes.name}
              x={place.x}
              y={place.y}
              textAnchor={place.anchor}
              dominantBaseline="central"
              data-chosen={model.id === chosen || undefined}
              data-quiet={standing(model) === "recommended" || standing(model) === "first" ? undefined : true}
            >
              {model.name}
            </text>
          )
        );
      })}
    </svg>
  );
}
