import { Button, Skeleton, Stack } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { sessionQuery, settingsQuery, useSignOut } from "@/api/access";
import { Callout } from "@/components/Callout";
import { EndNotices } from "@/components/EndNotices";
import { ErrorNotice } from "@/components/ErrorNotice";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { SettingTable } from "@/components/SettingTable";
import { TokenList } from "@/components/TokenList";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";

/** Who may enter, and the settings in force. */
export function Settings() {
  const { t } = useMessages();
  const session = useQuery(sessionQuery);
  const settings = useQuery(settingsQuery);
  const signOut = useSignOut();
  useDocumentTitle(t.settings.title);
  return (
    <>
      <PageHeader
        title={t.settings.title}
        lead={t.settings.lead}
        action={
          session.data?.signed_in && (
            <Button variant="default" loading={signOut.isPending} onClick={() => signOut.mutate()}>
              {t.access.signOut}
            </Button>
          )
        }
      />
      <Stack gap="md">
        <Panel title={t.access.title} hint={t.access.lead}>
          <Stack gap="md">
            {session.data && !session.data.required && (
              <Callout tone="info" title={t.access.open}>
                {t.access.openHint}
              </Callout>
            )}
            <TokenList />
          </Stack>
        </Panel>
        <Panel title={t.settings.noticesTitle} hint={t.settings.webhook}>
          <EndNotices />
        </Panel>
        <Panel title={t.settings.inForce} hint={t.settings.readOnly}>
          {settings.error && !settings.data && <ErrorNotice error={settings.error} onRetry={() => void settings.refetch()} />}
          {!settings.data && !settings.error && <Skeleton height={240} radius="md" aria-label={t.app.loading} />}
          {settings.data && <SettingTable settings={settings.data} />}
        </Panel>
      </Stack>
    </>
  );
}
