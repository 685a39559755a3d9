import { Box, Button } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { healthQuery } from "@/api/system";
import { Callout } from "@/components/Callout";
import { useMessages } from "@/hooks/useMessages";

/** Says that the server is away, keeps trying, and refreshes everything once it is back. */
export function ServerBanner() {
  const { t } = useMessages();
  const client = useQueryClient();
  const health = useQuery(healthQuery);
  const wasAway = useRef(false);

  useEffect(() => {
    if (health.isError) wasAway.current = true;
    else if (health.isSuccess && wasAway.current) {
      wasAway.current = false;
      void client.invalidateQueries();
    }
  }, [client, health.isError, health.isSuccess]);

  if (!health.isError) return null;
  return (
    <Box mb="lg">
      <Callout
        tone="warn"
        role="alert"
        title={t.server.away}
        action={
          <Button size="xs" variant="default" onClick={() => void health.refetch()} loading={health.isFetching}>
            {t.common.retry}
          </Button>
        }
      >
        {t.server.awayHint}
      </Callout>
    </Box>
  );
}
