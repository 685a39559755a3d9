import { Text } from "@mantine/core";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Panel } from "@/components/Panel";
import { PlanAlternatives } from "@/components/PlanAlternatives";
import { PlanSummary } from "@/components/PlanSummary";
import { useMessages } from "@/hooks/useMessages";
import type { Plan } from "@/types/api";

interface PlanPanelProps {
  plan: Plan | undefined;
  error: Error | null;
  onRetry: () => void;
  /** Whether everything that a plan needs is chosen. */
  complete: boolean;
  updating: boolean;
  onApply: (changes: Record<string, unknown>) => void;
}

/** The plan for what is chosen now, and the plans beside it that one click away. */
export function PlanPanel({ plan, error, onRetry, complete, updating, onApply }: PlanPanelProps) {
  const { t } = useMessages();
  return (
    <Panel title={t.plan.title}>
      {error && <ErrorNotice error={error} onRetry={onRetry} />}
      {plan && !error && !complete && (
        <Text size="sm" fw={500} mb="sm" role="status">
          {t.plan.held}
        </Text>
      )}
      {plan && !error && (
        <PlanSummary plan={plan} updating={updating}>
          <PlanAlternatives plan={plan} onApply={onApply} />
        </PlanSummary>
      )}
      {!plan && !error && <Text c="dimmed">{complete ? t.plan.computing : t.plan.waiting}</Text>}
    </Panel>
  );
}
