import { Button } from "@mantine/core";
import { FitBadge } from "@/components/FitBadge";
import { useMessages } from "@/hooks/useMessages";
import type { RecommendedModel } from "@/types/api";
import classes from "./ModelMap.module.css";

interface ModelTableProps {
  models: RecommendedModel[];
  chosen: string | undefined;
  onChoose: (id: string) => void;
}

/** The map in words and numbers, the best first. */
export function ModelTable({ models, chosen, onChoose }: ModelTableProps) {
  const { t, format } = useMessages();
  const nameOf = new Map(models.map(({ id, name }) => [id, name]));
  const note = (model: RecommendedModel): string =>
    [
      ...(model.rank === 1 && model.recommended ? [t.map.standings.first] : model.recommended ? [t.map.recommended] : []),
      ...(model.dominated ? [t.map.dominatedBy(nameOf.get(model.dominated_by ?? "") ?? "")] : []),
    ].join(". ");
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls has to be reachable by keyboard
    <div className={classes.scroll} tabIndex={0} role="region" aria-label={t.map.table}>
      <table className={classes.table}>
        <thead>
          <tr>
            <th scope="col">{t.selector.label}</th>
            <th scope="col">{t.map.time}</th>
            <th scope="col">{t.map.quality}</th>
            <th scope="col">{t.plan.memory}</th>
            <th scope="col">{t.models.fit}</th>
            <th scope="col">
              <span className={classes.hidden}>{t.models.use}</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {models.map((model) => (
            <tr key={model.id} data-chosen={model.id === chosen || undefined}>
              <th scope="row">
                {model.name}
                <span className={classes.note}>{note(model)}</span>
              </th>
              <td>{t.plan.timeRange(format.estimate(model.seconds_p50), format.estimate(model.seconds_p90))}</td>
              <td>
                {format.number(model.quality, 1)}
                <span className={classes.note}>{model.quality_source}</span>
              </td>
              <td>{format.bytes(model.peak_bytes)}</td>
              <td>
                <FitBadge verdict={model.verdict} />
              </td>
              <td>
                <Button
                  size="compact-sm"
                  variant="default"
                  disabled={model.id === chosen}
                  aria-label={t.models.useLabel(model.name)}
                  onClick={() => onChoose(model.id)}
                >
                  {t.models.use}
                </Button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
