import { NativeSelect, TextInput } from "@mantine/core";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import { boundsOf } from "@/lib/limits";
import { explainOption, kindOf, showOption } from "@/lib/optionText";
import type { Messages } from "@/locales/en";
import type { ResolvedValue } from "@/types/api";
import classes from "./OptionField.module.css";

interface OptionFieldProps {
  name: keyof Messages["options"];
  /** What a person set; empty = automatic. */
  text: string;
  onChange: (text: string) => void;
  /** How the last plan resolved this option. */
  resolved: ResolvedValue | undefined;
  /** What the server said about this field. */
  refused?: string | undefined;
}

/** One hyper-parameter: its field beside the automatic value, where that comes from, and the way back to it. */
export function OptionField({ name, text, onChange, resolved, refused }: OptionFieldProps) {
  const { t, format } = useMessages();
  const own = text.trim() !== "";
  const show = (value: unknown): string => showOption(value, t, format.small);
  const automatic = resolved?.automatic ?? (own ? undefined : resolved?.value);
  const known = automatic !== undefined && automatic !== null;
  const origin = !own && resolved ? t.decidedBy[resolved.origin] : undefined;
  const kind = kindOf(name);
  const label = t.options[name];
  const shared = {
    id: `option-${name}`,
    label,
    description: t.optionHints[name],
    error: explainOption(name, text, t, format.small) ?? refused,
    "data-own": own || undefined,
    classNames: {
      root: classes.contents ?? "",
      label: classes.label ?? "",
      description: classes.hint ?? "",
      wrapper: classes.control ?? "",
      error: classes.error ?? "",
    },
  };
  const choices = kind === "switch" ? ["true", "false"] : (boundsOf(name).enum ?? []);

  return (
    <div className={classes.row} data-own={own || undefined} data-testid={`option-${name}`}>
      {kind === "switch" || kind === "choice" ? (
        <NativeSelect
          {...shared}
          value={text}
          onChange={(event) => onChange(event.currentTarget.value)}
          data={[
            { value: "", label: known ? t.training.automaticIs(show(automatic)) : t.common.automatic },
            ...choices.map((value) => ({ value, label: kind === "switch" ? show(value === "true") : show(value) })),
          ]}
        />
      ) : (
        <TextInput
          {...shared}
          placeholder={known ? show(automatic) : t.common.automatic}
          inputMode={kind === "number" ? "decimal" : "text"}
          autoComplete="off"
          value={text}
          onChange={(event) => onChange(event.currentTarget.value)}
        />
      )}
      <div className={classes.below} data-testid={`origin-${name}`}>
        {own ? (
          <>
            <span className={classes.yours}>{t.decidedBy.user}</span>
            <button type="button" className={classes.back} onClick={() => onChange("")} aria-label={t.training.backTo(label)}>
              <Icon name="undo" size={14} />
              {known ? t.training.backToValue(show(automatic)) : t.training.reset}
            </button>
          </>
        ) : (
          known && (
            <span>
              {t.training.automaticIs(show(automatic))}
              {origin && `, ${origin}`}
              {resolved?.reason && <span className={classes.reason}>{resolved.reason}</span>}
            </span>
          )
        )}
      </div>
    </div>
  );
}
