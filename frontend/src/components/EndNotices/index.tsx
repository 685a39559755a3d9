import { Switch } from "@mantine/core";
import { useState } from "react";
import { useMessages } from "@/hooks/useMessages";
import { canNotify, chooseNotices, wantsNotices } from "@/lib/endNotices";

/** Whether this browser announces the end of a training. */
export function EndNotices() {
  const { t } = useMessages();
  const [on, setOn] = useState(wantsNotices);
  const [refused, setRefused] = useState(false);
  const choose = async (wanted: boolean): Promise<void> => {
    const granted = await chooseNotices(wanted);
    setOn(granted);
    setRefused(wanted && !granted);
  };
  return (
    <Switch
      label={t.settings.notices}
      description={canNotify() ? t.settings.noticesHint : t.settings.noticesMissing}
      error={refused ? t.settings.noticesRefused : undefined}
      disabled={!canNotify()}
      checked={on}
      onChange={(event) => void choose(event.currentTarget.checked)}
    />
  );
}
