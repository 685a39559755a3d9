import { Button, Select, Skeleton, Stack, Text, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { skipToken, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import type { FormEvent } from "react";
import { datasetsQuery } from "@/api/datasets";
import { useStartJob } from "@/api/jobs";
import { modelsQuery } from "@/api/models";
import { planQuery } from "@/api/plans";
import { AdvancedOptions } from "@/components/AdvancedOptions";
import { explainProblem } from "@/components/AdvancedOptions/advanced";
import { EmptyState } from "@/components/EmptyState";
import { ErrorNotice } from "@/components/ErrorNotice";
import { FlowSteps } from "@/components/FlowSteps";
import { Icon } from "@/components/Icon";
import { ModelSelector } from "@/components/ModelSelector";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { PlanSummary } from "@/components/PlanSummary";
import { useDocumentTitle } from "@/hooks/useDocumentTitle";
import { useMessages } from "@/hooks/useMessages";
import type { StartFinetuningRequest } from "@/types/api";
import { useTrainingForm } from "./useTrainingForm";
import classes from "./TrainingConfig.module.css";

const PLAN_DELAY_MS = 250;
const NO_REQUEST: StartFinetuningRequest = { dataset_id: "", model_name: "" };

interface TrainingConfigProps {
  /** From the address: /training?dataset=…&model=… */
  datasetId: string | undefined;
  modelName: string | undefined;
}

/** Step 2: choose a model; the plan says at once what that will take. */
export function TrainingConfig({ datasetId, modelName }: TrainingConfigProps) {
  const { t, format } = useMessages();
  const navigate = useNavigate();
  const datasets = useQuery(datasetsQuery);
  const models = useQuery(modelsQuery);
  const start = useStartJob();
  useDocumentTitle(t.training.title);

  const dataset = datasetId ?? datasets.data?.[0]?.dataset_id;
  const model = modelName ?? models.data?.find(({ preselected }) => preselected)?.id;
  const form = useTrainingForm(dataset, model);
  const [settled] = useDebouncedValue(form.request, PLAN_DELAY_MS);
  const options = planQuery(settled ?? NO_REQUEST);
  const plan = useQuery({ ...options, queryFn: settled ? options.queryFn : skipToken });

  const choose = (search: { dataset?: string | undefined; model?: string | undefined }): void => {
    start.reset();
    void navigate({ to: "/training", search: { dataset, model, ...search }, replace: true });
  };
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

  return (
    <>
      {head}
      <form className={classes.columns} onSubmit={onSubmit} noValidate>
        <Stack gap="md">
          <Panel>
            <Stack gap="lg">
              {datasets.data ? (
                <Select
                  label={t.training.dataset}
                  placeholder={t.training.chooseDataset}
                  size="md"
                  searchable
                  allowDeselect={false}
                  checkIconPosition="right"
                  nothingFoundMessage={t.common.none}
                  value={dataset ?? null}
                  onChange={(id) => id !== null && choose({ dataset: id })}
                  data={datasets.data.map(({ dataset_id, name, rows }) => ({
                    value: dataset_id,
                    label: `${name} (${t.dataset.rows(format.number(rows), rows)})`,
                  }))}
                />
              ) : (
                <Skeleton height={64} radius="md" />
              )}
              <ModelSelector value={model ?? null} onChange={(id) => choose({ model: id })} />
              <TextInput
                label={t.training.epochs}
                description={t.training.epochsHint}
                size="md"
                maw={260}
                inputMode="numeric"
                autoComplete="off"
                value={form.epochs}
                error={explainProblem("num_epochs", form.epochs, t, format.number)}
                onChange={(event) => form.setEpochs(event.currentTarget.value)}
              />
            </Stack>
          </Panel>
          <Panel>
            <AdvancedOptions values={form.advanced} onChange={form.setAdvanced} plan={plan.data} />
          </Panel>
        </Stack>
        <div className={classes.plan}>
          <Panel title={t.plan.title}>
            {plan.error && <ErrorNotice error={plan.error} onRetry={() => void plan.refetch()} />}
            {plan.data && !plan.error && <PlanSummary plan={plan.data} updating={plan.isFetching || settled !== form.request} />}
            {!plan.data && !plan.error && (
              <Text c="dimmed">{settled ? t.plan.computing : t.plan.waiting}</Text>
            )}
          </Panel>
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
