import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { EmptyState } from "@/components/EmptyState";
import { Panel } from "@/components/Panel";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";

/** An address that names nothing. */
export function NotFound() {
  const { t } = useMessages();
  useDocumentTitle(t.errors.notFound);
  return (
    <Panel>
      <EmptyState
        icon="search"
        title={t.errors.notFound}
        hint={t.errors.notFoundHint}
        action={<Button renderRoot={(props) => <Link to="/upload" {...props} />}>{t.errors.home}</Button>}
      />
    </Panel>
  );
}
