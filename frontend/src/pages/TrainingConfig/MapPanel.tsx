import { Skeleton } from "@mantine/core";
import { ErrorNotice } from "@/components/ErrorNotice";
import { ModelMap } from "@/components/ModelMap";
import { Panel } from "@/components/Panel";
import { useMessages } from "@/hooks/useMessages";
import type { Recommendation } from "@/types/api";

interface MapPanelProps {
  recommendation: Recommendation | undefined;
  error: Error | null;
  onRetry: () => void;
  chosen: string | undefined;
  onChoose: (id: string) => void;
}

/** Which model suits this data on this machine. */
export function MapPanel({ recommendation, error, onRetry, chosen, onChoose }: MapPanelProps) {
  const { t } = useMessages();
  return (
    <Panel title={t.map.title} hint={t.map.hint}>
      {error && !recommendation && <ErrorNotice error={error} onRetry={onRetry} />}
      {!error && !recommendation && <Skeleton height={320} radius="md" aria-label={t.app.loading} />}
      {recommendation && recommendation.models.length > 0 && (
        <ModelMap recommendation={recommendation} chosen={chosen} onChoose={onChoose} />
      )}
    </Panel>
  );
}
