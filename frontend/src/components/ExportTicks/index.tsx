import { Checkbox, Stack, Text } from "@mantine/core";
import { skipToken, useQuery } from "@tanstack/react-query";
import { offersQuery } from "@/api/exports";
import { useMessages } from "@/hooks/useMessages";
import type { ExportFormat, ExportOffer } from "@/types/api";

interface ExportTicksProps {
  model: string | undefined;
  /** Formats that are ticked, by name. */
  value: string[];
  onChange: (formats: string[]) => void;
}

/** Formats to write the trained model in; what this model cannot become is said here, before it is trained. */
export function ExportTicks({ model, value, onChange }: ExportTicksProps) {
  const { t, format } = useMessages();
  const what = ({ format: name, measured }: ExportOffer): string =>
    t.exports.what[name] + (measured ? ` ${t.exports.measured(measured.model_name, format.percent(measured.top1))}` : "");
  const options = offersQuery(model);
  const { data: offers } = useQuery({ ...options, queryFn: model ? options.queryFn : skipToken });
  return (
    <details>
      <summary>
        {t.exports.ticks}
        {value.length > 0 && `: ${value.map((name) => t.exports.names[name as ExportFormat]).join(", ")}`}
      </summary>
      <Checkbox.Group aria-label={t.exports.ticks} description={t.exports.ticksHint} value={value} onChange={onChange} mt="xs">
        <Stack gap={8} mt="sm" data-testid="export-ticks">
          {(offers ?? []).map((offer) => (
            <Checkbox
              key={offer.format}
              value={offer.format}
              disabled={!offer.possible}
              label={t.exports.names[offer.format]}
              description={offer.reason ? <Text span size="xs">{offer.reason.message}</Text> : what(offer)}
            />
          ))}
        </Stack>
      </Checkbox.Group>
    </details>
  );
}
