import { Facts } from "@/components/Facts";
import { FitBadge } from "@/components/FitBadge";
import { Stars } from "@/components/Stars";
import { useMessages } from "@/hooks/useMessages";
import type { Model, Verdict } from "@/types/api";
import classes from "./ModelFacts.module.css";

/** Everything worth knowing about one model before it is chosen. */
export function ModelFacts({ model, verdict }: { model: Model; verdict: Verdict }) {
  const { t, format } = useMessages();
  const s = t.selector;
  return (
    <div className={classes.card} data-testid="model-facts">
      <div className={classes.head}>
        <p className={classes.description}>{model.description}</p>
        <FitBadge verdict={verdict} />
      </div>
      <Facts
        facts={[
          { label: s.quality, value: <Stars rating={model.quality_rating} label={s.quality} /> },
          { label: s.speed, value: <Stars rating={model.speed_rating} label={s.speed} /> },
          { label: s.memory, value: format.bytes(model.vram_required_gb * 2 ** 30), hint: s.memoryHint },
          ...(model.params ? [{ label: s.parameters, value: format.compact(model.params) }] : []),
          ...(model.licence ? [{ label: s.licence, value: model.licence, hint: model.gated ? s.gated : undefined }] : []),
          ...(model.weights !== "ready" && model.download_bytes
            ? [{ label: s.download, value: format.bytes(model.download_bytes) }]
            : []),
        ]}
      />
      <p className={classes.caption}>{s.defaults}</p>
      <Facts
        facts={[
          { label: s.batch, value: format.number(model.batch_size) },
          { label: s.length, value: s.tokens(format.number(model.max_length)) },
          { label: s.rate, value: format.small(model.learning_rate) },
          { label: s.lora, value: s.loraValue(format.number(model.lora_rank), format.number(model.lora_alpha)) },
          { label: s.accumulation, value: format.number(model.gradient_accumulation_steps) },
          ...(model.quantization === "nf4" ? [{ label: t.options.quantization, value: s.fourBit }] : []),
        ]}
      />
    </div>
  );
}
