import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { ApiError } from "@/api/client";
import { SpeechProvider } from "@/app/SpeechProvider";
import type { createAppRouter } from "@/app/router";
import { cssVariables, theme } from "@/app/theme";
import "@mantine/core/styles.css";
import "@/app/theme.css";

const MOST_RETRIES = 2;
const FRESH_MS = 2_000;

export function createClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: FRESH_MS,
        // An answer of the server is final; only a lost connection is worth another try.
        retry: (failures, error) => !(error instanceof ApiError) && failures < MOST_RETRIES,
      },
    },
  });
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
