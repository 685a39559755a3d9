import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { PageHeader } from "@/components/PageHeader";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";

/** An address that names nothing. */
export function NotFound() {
  const { t } = useMessages();
  useDocumentTitle(t.errors.notFound);
  return (
    <PageHeader
      title={t.errors.notFound}
      lead={t.errors.notFoundHint}
      action={<Button renderRoot={(props) => <Link to="/upload" {...props} />}>{t.errors.home}</Button>}
    />
  );
}
