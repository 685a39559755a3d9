import { Button, Stack, Text } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { skipToken, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import type { FormEvent } from "react";
import { refusedFields } from "@/api/client";
import { datasetsQuery, type Reading } from "@/api/datasets";
import { useStartJob } from "@/api/jobs";
import { modelsQuery, recommendedQuery } from "@/api/models";
import { planQuery } from "@/api/plans";
import { AdvancedOptions } from "@/components/AdvancedOptions";
import { EmptyState } from "@/components/EmptyState";
import { ErrorNotice } from "@/components/ErrorNotice";
import { FlowSteps } from "@/components/FlowSteps";
import { Icon } from "@/components/Icon";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { TokenTruth } from "@/components/TokenTruth";
import { Trial } from "@/components/Trial";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";
import type { Plan, StartFinetuningRequest } from "@/types/api";
import { MapPanel } from "./MapPanel";
import { PlanPanel } from "./PlanPanel";
import { PlanStrip } from "./PlanStrip";
import { SetupPanel } from "./SetupPanel";
import { useTrainingForm } from "./useTrainingForm";
import classes from "./TrainingConfig.module.css";

const PLAN_DELAY_MS = 250;
const NO_REQUEST: StartFinetuningRequest = { dataset_id: "", model_name: "" };

/** How this run would read the rows: the plan's length, and what a person chose besides. */
function readingOf(plan: Plan | undefined, request: StartFinetuningRequest | undefined): Reading | undefined {
  if (!plan || !request) return undefined;
  const { value: length } = plan.resolved.max_length ?? {};
  return {
    model: request.model_name,
    max_length: typeof length === "number" ? length : undefined,
    long_rows: request.long_rows ?? undefined,
    method: request.method ?? undefined,
  };
}

interface TrainingConfigProps {
  /** From the address: /training?dataset=…&model=… */
  datasetId: string | undefined;
  modelName: string | undefined;
}

/** Step 2: choose a model; the plan says at once what that will take. */
export function TrainingConfig({ datasetId, modelName }: TrainingConfigProps) {
  const { t } = useMessages();
  const navigate = useNavigate();
  const datasets = useQuery(datasetsQuery);
  const models = useQuery(modelsQuery);
  const start = useStartJob();
  useDocumentTitle(t.training.title);

  const dataset = datasetId ?? datasets.data?.[0]?.dataset_id;
  const model = modelName ?? models.data?.find(({ preselected }) => preselected)?.id;
  const form = useTrainingForm(dataset, model);
  const ranked = recommendedQuery(dataset, form.objective);
  const recommended = useQuery({ ...ranked, queryFn: dataset ? ranked.queryFn : skipToken });
  const [settled] = useDebouncedValue(form.request, PLAN_DELAY_MS);
  const options = planQuery(settled ?? NO_REQUEST);
  const plan = useQuery({ ...options, queryFn: settled ? options.queryFn : skipToken });

  const choose = (search: { dataset?: string | undefined; model?: string | undefined }): void => {
    start.reset();
    void navigate({ to: "/training", search: { dataset, model, ...search }, replace: true, resetScroll: false });
  };
  const chooseModel = (id: string): void => choose({ model: id });
  const onSubmit = (event: FormEvent): void => {
    event.preventDefault();
    if (!form.request) return;
    start.mutate(form.request, {
      onSuccess: ({ job_id }) => void navigate({ to: "/dashboard", search: { job: job_id } }),
    });
  };

  const head = (
    <>
      <FlowSteps current="configure" />
      <PageHeader title={t.training.title} lead={t.training.lead} />
    </>
  );
  if (datasets.error && !datasets.data) {
    return (
      <>
        {head}
        <ErrorNotice error={datasets.error} onRetry={() => void datasets.refetch()} />
      </>
    );
  }
  if (datasets.data?.length === 0) {
    return (
      <>
        {head}
        <Panel>
          <EmptyState
            icon="upload"
            title={t.training.noDataset}
            hint={t.training.noDatasetHint}
            action={<Button renderRoot={(props) => <Link to="/upload" {...props} />}>{t.training.toUpload}</Button>}
          />
        </Panel>
      </>
    );
  }

  const shown = datasets.data?.find(({ dataset_id }) => dataset_id === dataset);
  const reading = readingOf(plan.data, settled);
  const setup = { datasets: datasets.data, dataset, model, form, recommendation: recommended.data };
  const ranking = { recommendation: recommended.data, error: recommended.error, onRetry: () => void recommended.refetch() };
  return (
    <>
      {head}
      <form className={classes.columns} onSubmit={onSubmit} noValidate>
        <Stack gap="md" className={classes.choices}>
          <SetupPanel {...setup} onDataset={(id) => choose({ dataset: id })} onModel={chooseModel} />
          <MapPanel {...ranking} chosen={model} onChoose={chooseModel} />
          <Panel>
            <AdvancedOptions
              values={form.values}
              onChange={form.setValues}
              onReset={form.reset}
              plan={plan.data}
              refused={refusedFields(start.error ?? plan.error)}
            />
          </Panel>
          {shown && reading && <TokenTruth key={shown.content_hash} dataset={shown} reading={reading} />}
          {dataset && model && (
            <Panel title={t.trial.title} hint={t.trial.hint}>
              <Trial datasetId={dataset} modelName={model} />
            </Panel>
          )}
          <PlanStrip plan={plan.data} />
        </Stack>
        <div className={classes.plan} id="plan">
          <div className={classes.scroll}>
            <PlanPanel
              plan={plan.data}
              error={plan.error}
              onRetry={() => void plan.refetch()}
              complete={settled !== undefined}
              updating={plan.isFetching || settled !== form.request}
              onApply={form.apply}
            />
          </div>
          {start.error && <ErrorNotice error={start.error} />}
          <Button type="submit" size="lg" fullWidth rightSection={<Icon name="arrow" />} loading={start.isPending} disabled={!form.request}>
            {t.training.start}
          </Button>
          <Text size="sm" c="dimmed" ta="center">
            {t.training.waitingFor}
          </Text>
        </div>
      </form>
    </>
  );
}
