import { Button, TextInput } from "@mantine/core";
import { useState, type FormEvent } from "react";
import { useAddModel } from "@/api/models";
import { Callout } from "@/components/Callout";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import { boundsOf } from "@/lib/limits";
import classes from "./AddModel.module.css";

/** Brings any language model into the catalogue by its hub id or its folder; only its config.json is read. */
export function AddModel() {
  const { t, format } = useMessages();
  const [text, setText] = useState("");
  const add = useAddModel();
  const most = boundsOf("model_name").maxLength ?? Infinity;
  const name = text.trim();
  const tooLong = name.length > most;

  const onSubmit = (event: FormEvent): void => {
    event.preventDefault();
    if (name && !tooLong) add.mutate(name, { onSuccess: () => setText("") });
  };
  return (
    <form className={classes.form} onSubmit={onSubmit} noValidate>
      <div className={classes.line}>
        <TextInput
          className={classes.field ?? ""}
          label={t.models.add}
          description={t.models.addHint}
          placeholder="Qwen/Qwen2.5-0.5B-Instruct"
          autoComplete="off"
          autoCapitalize="off"
          spellCheck={false}
          value={text}
          error={tooLong ? t.limits.letters(format.number(most)) : undefined}
          onChange={(event) => {
            setText(event.currentTarget.value);
            if (!add.isPending) add.reset();
          }}
        />
        <Button type="submit" variant="default" leftSection={<Icon name="plus" />} loading={add.isPending} disabled={!name || tooLong}>
          {t.models.addButton}
        </Button>
      </div>
      {add.error && <ErrorNotice error={add.error} />}
      {add.data && (
        <Callout tone="good" role="status" title={t.models.wasAdded(add.data.name)}>
          {t.models.wasAddedHint(format.bytes(add.data.peak_bytes), t.fitLong[add.data.fit].toLowerCase())}
        </Callout>
      )}
    </form>
  );
}
