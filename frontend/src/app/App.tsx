import { MantineProvider } from "@mantine/core";
import { QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { sessionQuery } from "@/api/access";
import { ApiError } from "@/api/client";
import { SpeechProvider } from "@/app/SpeechProvider";
import type { createAppRouter } from "@/app/router";
import { cssVariables, theme } from "@/app/theme";
import "@mantine/core/styles.css";
import "@/app/theme.css";

const MOST_RETRIES = 2;
const FRESH_MS = 2_000;

export function createClient(): QueryClient {
  const client: QueryClient = new QueryClient({
    // A session that ended (revoked, expired) shows at the next question; the gate then asks to sign in.
    queryCache: new QueryCache({
      onError: (error) => {
        if (error instanceof ApiError && error.status === 401) void client.invalidateQueries({ queryKey: sessionQuery.queryKey });
      },
    }),
    defaultOptions: {
      queries: {
        staleTime: FRESH_MS,
        // An answer of the server is final; only a lost connection is worth another try.
        retry: (failures, error) => !(error instanceof ApiError) && failures < MOST_RETRIES,
      },
    },
  });
  return client;
}

interface AppProps {
  router: ReturnType<typeof createAppRouter>;
  client: QueryClient;
}

export function App({ router, client }: AppProps) {
  return (
    <MantineProvider theme={theme} cssVariablesResolver={cssVariables} defaultColorScheme="auto">
      <QueryClientProvider client={client}>
        <SpeechProvider>
          <RouterProvider router={router} />
        </SpeechProvider>
      </QueryClientProvider>
    </MantineProvider>
  );
}
