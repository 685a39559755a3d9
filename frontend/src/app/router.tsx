import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Navigate,
  Outlet,
  redirect,
  type ErrorComponentProps,
  type RouterHistory,
} from "@tanstack/react-router";
import { AppFrame } from "@/components/AppFrame";
import { Callout } from "@/components/Callout";
import { SignInGate } from "@/components/SignIn";
import { useMessages } from "@/hooks/useMessages";
import { NotFound } from "@/pages/NotFound";

const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined);

function Crash({ error }: ErrorComponentProps) {
  const { t } = useMessages();
  return (
    <Callout tone="bad" role="alert" title={t.errors.unexpected}>
      <p>{t.errors.unexpectedHint}</p>
      <p>{String(error)}</p>
    </Callout>
  );
}

const root = createRootRoute({
  component: () => (
    <SignInGate>
      <AppFrame>
        <Outlet />
      </AppFrame>
    </SignInGate>
  ),
  notFoundComponent: NotFound,
  errorComponent: Crash,
});

const home = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/upload", search: {} });
  },
});

/** Where a launch link leads; once signed in there is nothing to see. */
const signIn = createRoute({
  getParentRoute: () => root,
  path: "/sign-in",
  component: () => <Navigate to="/upload" search={{}} replace />,
});

/** 1, 2, ... */
const rowNumber = (value: unknown): number | undefined => (Number.isSafeInteger(value) && Number(value) > 0 ? Number(value) : undefined);

interface RowSearch {
  row?: number | undefined;
}
interface DatasetSearch {
  dataset?: string | undefined;
}
interface TrainingSearch extends DatasetSearch {
  model?: string | undefined;
}
interface JobSearch {
  job?: string | undefined;
}

// lazyRouteComponent wants components without props; each wrapper reads the address for its page.
const upload = createRoute({
  getParentRoute: () => root,
  path: "/upload",
  validateSearch: (search: Record<string, unknown>): DatasetSearch & RowSearch => ({ dataset: text(search.dataset), row: rowNumber(search.row) }),
  component: function UploadRoute() {
    const { dataset: datasetId, row } = upload.useSearch();
    return <Pages.Upload datasetId={datasetId} row={row} />;
  },
});

const training = createRoute({
  getParentRoute: () => root,
  path: "/training",
  validateSearch: (search: Record<string, unknown>): TrainingSearch => ({
    dataset: text(search.dataset),
    model: text(search.model),
  }),
  component: function TrainingRoute() {
    const { dataset, model } = training.useSearch();
    return <Pages.TrainingConfig datasetId={dataset} modelName={model} />;
  },
});

const dashboard = createRoute({
  getParentRoute: () => root,
  path: "/dashboard",
  validateSearch: (search: Record<string, unknown>): JobSearch => ({ job: text(search.job) }),
  component: function DashboardRoute() {
    return <Pages.Dashboard jobId={dashboard.useSearch().job} />;
  },
});

const job = createRoute({
  getParentRoute: () => root,
  path: "/jobs/$jobId",
  component: function JobRoute() {
    return <Pages.JobDetail jobId={job.useParams().jobId} />;
  },
});

const playground = createRoute({
  getParentRoute: () => root,
  path: "/playground",
  validateSearch: (search: Record<string, unknown>): JobSearch => ({ job: text(search.job) }),
  component: function PlaygroundRoute() {
    return <Pages.Playground jobId={playground.useSearch().job} />;
  },
});

const models = createRoute({
  getParentRoute: () => root,
  path: "/models",
  component: function ModelsRoute() {
    return <Pages.Models />;
  },
});

const machine = createRoute({
  getParentRoute: () => root,
  path: "/machine",
  component: function MachineRoute() {
    return <Pages.Machine />;
  },
});

const settings = createRoute({
  getParentRoute: () => root,
  path: "/settings",
  component: function SettingsRoute() {
    return <Pages.Settings />;
  },
});

const dataset = createRoute({
  getParentRoute: () => root,
  path: "/datasets/$datasetId",
  validateSearch: (search: Record<string, unknown>): RowSearch => ({ row: rowNumber(search.row) }),
  component: function DatasetRoute() {
    return <Pages.DatasetDetail datasetId={dataset.useParams().datasetId} row={dataset.useSearch().row} />;
  },
});

/** Each page is a chunk of its own, fetched when its address is opened or its link is pointed at. */
const Pages = {
  Upload: lazyRouteComponent(() => import("@/pages/Upload"), "Upload"),
  TrainingConfig: lazyRouteComponent(() => import("@/pages/TrainingConfig"), "TrainingConfig"),
  Dashboard: lazyRouteComponent(() => import("@/pages/Dashboard"), "Dashboard"),
  JobDetail: lazyRouteComponent(() => import("@/pages/JobDetail"), "JobDetail"),
  Playground: lazyRouteComponent(() => import("@/pages/Playground"), "Playground"),
  Models: lazyRouteComponent(() => import("@/pages/Models"), "Models"),
  Machine: lazyRouteComponent(() => import("@/pages/Machine"), "Machine"),
  Settings: lazyRouteComponent(() => import("@/pages/Settings"), "Settings"),
  DatasetDetail: lazyRouteComponent(() => import("@/pages/DatasetDetail"), "DatasetDetail"),
};

export function createAppRouter(history?: RouterHistory) {
  return createRouter({
    routeTree: root.addChildren([home, signIn, settings, upload, training, dashboard, job, playground, models, machine, dataset]),
    scrollRestoration: true,
    ...(history && { history }),
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof createAppRouter>;
  }
}
