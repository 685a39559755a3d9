import { Button } from "@mantine/core";
import { ApiError, Unreachable } from "@/api/client";
import { Callout } from "@/components/Callout";
import { useMessages } from "@/hooks/useMessages";

/** What went wrong in the server's words, with its hint and a way to try again. */
export function ErrorNotice({ error, onRetry }: { error: Error; onRetry?: () => void }) {
  const { t } = useMessages();
  const away = error instanceof Unreachable;
  const message = away ? t.errors.unreachable : error.message;
  const hint = away ? t.errors.unreachableHint : error instanceof ApiError ? error.content.hint : "";
  const details = error instanceof ApiError ? (error.content.details ?? []) : [];
  return (
    <Callout
      tone="bad"
      role="alert"
      title={message || t.errors.title}
      action={
        onRetry && (
          <Button size="xs" variant="default" onClick={onRetry}>
            {t.common.retry}
          </Button>
        )
      }
    >
      {hint && <p>{hint}</p>}
      {details.length > 0 && (
        <ul>
          {details.slice(0, 20).map((detail, index) => (
            <li key={index}>{describe(detail, t.dataset.row)}</li>
          ))}
        </ul>
      )}
    </Callout>
  );
}

/** One place at fault: dictionaries with any of field, row, column, message (core/errors.py). */
function describe(detail: Record<string, unknown>, row: (number: string) => string): string {
  const parts = [
    typeof detail.field === "string" ? detail.field : undefined,
    typeof detail.row === "number" && detail.row > 0 ? row(String(detail.row)) : undefined,
    typeof detail.column === "string" ? detail.column : undefined,
  ].filter((part) => part !== undefined);
  const message = typeof detail.message === "string" ? detail.message : "";
  return parts.length > 0 ? `${parts.join(", ")}: ${message}` : message;
}
