import { Anchor, Button, Loader, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { exportFilePath, exportsQuery, isUnderWay, useDeleteExport, useStartExport } from "@/api/exports";
import { Callout } from "@/components/Callout";
import { ConfirmButton } from "@/components/ConfirmButton";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Panel } from "@/components/Panel";
import { Pill } from "@/components/StatusPill";
import { useMessages } from "@/hooks/useMessages";
import type { Export, ExportOffer } from "@/types/api";
import { Certificate } from "./Certificate";
import { Push } from "./Push";
import classes from "./Exports.module.css";

function Made({ jobId, made }: { jobId: string; made: Export }) {
  const { format } = useMessages();
  return (
    <div className={classes.body}>
      {made.error && (
        <Callout tone="bad" title={made.error.message} role="status">
          {made.error.hint}
        </Callout>
      )}
      {made.certificate && <Certificate certificate={made.certificate} />}
      {made.files.length > 0 && (
        <>
          <ul className={classes.files}>
            {made.files.map((file) => (
              <li key={file.name}>
                <Anchor href={exportFilePath(jobId, made.format, file.name)} download>
                  {file.name}
                </Anchor>{" "}
                <Text span size="xs" c="dimmed">
                  {format.bytes(file.size_bytes)}
                </Text>
              </li>
            ))}
          </ul>
          <Text className="wrap" ff="monospace" size="xs" c="dimmed">
            {made.path}
          </Text>
          <Push jobId={jobId} made={made} />
        </>
      )}
    </div>
  );
}

function Item({ jobId, offer, made }: { jobId: string; offer: ExportOffer; made: Export | undefined }) {
  const { t, format } = useMessages();
  const start = useStartExport(jobId);
  const drop = useDeleteExport(jobId);
  const busy = made !== undefined && isUnderWay(made);
  return (
    <li className={classes.item} data-testid={`export-${offer.format}`}>
      <div className={classes.head}>
        <span className={classes.name}>{t.exports.names[offer.format]}</span>
        <span className={classes.what}>
          {t.exports.what[offer.format]}
          {offer.measured && ` ${t.exports.measured(offer.measured.model_name, format.percent(offer.measured.top1))}`}
        </span>
        {made?.status === "succeeded" && <Pill tone="good">{t.exports.checked}</Pill>}
        {made?.status === "failed" && <Pill tone="bad">{t.exports.failed}</Pill>}
        {busy ? (
          <span role="status">
            <Loader size="xs" mr={8} />
            <Text span size="sm">
              {made.phase ? t.exports.phases[made.phase] : t.exports.queued}
            </Text>
          </span>
        ) : (
          <>
            {made?.status === "succeeded" && (
              <ConfirmButton
                size="xs"
                question={t.exports.deleteQuestion}
                hint={t.exports.deleteHint}
                confirm={t.exports.delete}
                onConfirm={() => drop.mutate(offer.format)}
              >
                {t.exports.delete}
              </ConfirmButton>
            )}
            <Button
              size="xs"
              variant="default"
              disabled={!offer.possible}
              loading={start.isPending}
              onClick={() => start.mutate(offer.format)}
              aria-label={`${made ? t.exports.again : t.exports.start}: ${t.exports.names[offer.format]}`}
            >
              {made ? t.exports.again : t.exports.start}
            </Button>
          </>
        )}
      </div>
      {offer.reason && (
        <Text size="sm" mt={4}>
          {offer.reason.message} {offer.reason.hint}
        </Text>
      )}
      {start.error && <ErrorNotice error={start.error} />}
      {made && <Made jobId={jobId} made={made} />}
    </li>
  );
}

/** Every format that a finished job can be written in, with what was made and its certificate. */
export function Exports({ jobId }: { jobId: string }) {
  const { t } = useMessages();
  const { data, error, refetch } = useQuery(exportsQuery(jobId));
  if (error && !data) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!data) return null;
  const made = new Map(data.exports.map((each) => [each.format, each]));
  return (
    <Panel title={t.exports.title} hint={t.exports.hint}>
      <ul className={classes.list}>
        {data.offers.map((offer) => (
          <Item key={offer.format} jobId={jobId} offer={offer} made={made.get(offer.format)} />
        ))}
      </ul>
    </Panel>
  );
}
