import { Button, Skeleton, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { tokensQuery, useCreateToken, useRevokeToken } from "@/api/access";
import { Callout } from "@/components/Callout";
import { CommandBlock } from "@/components/CommandBlock";
import { ConfirmButton } from "@/components/ConfirmButton";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Icon } from "@/components/Icon";
import { useMessages } from "@/hooks/useMessages";
import type { Token } from "@/types/api";
import classes from "./TokenList.module.css";

const LONGEST_NAME = 100;

function TokenRow({ token }: { token: Token }) {
  const { t, format } = useMessages();
  const revoke = useRevokeToken();
  const until = token.expires_at ? t.access.until(format.dateTime(token.expires_at)) : t.access.forever;
  return (
    <li>
      <div className={classes.words}>
        <p className={classes.name}>
          {token.name} {token.current && <span className={classes.current}>{t.access.current}</span>}
        </p>
        <p className={classes.detail}>
          {t.access.kinds[token.kind]} · {t.access.made(format.dateTime(token.created_at))} · {until}
        </p>
        {revoke.error && <ErrorNotice error={revoke.error} />}
      </div>
      <ConfirmButton
        size="xs"
        loading={revoke.isPending}
        aria-label={`${t.access.revoke}: ${token.name}`}
        question={t.access.revokeQuestion(token.name)}
        hint={t.access.revokeHint}
        confirm={t.access.revoke}
        onConfirm={() => revoke.mutate(token.id)}
      >
        {t.access.revoke}
      </ConfirmButton>
    </li>
  );
}

/** Tokens and signed-in browsers: make one, see it once, revoke it. */
export function TokenList() {
  const { t } = useMessages();
  const [name, setName] = useState("");
  const { data, error, refetch } = useQuery(tokensQuery);
  const create = useCreateToken();

  const onSubmit = (event: FormEvent): void => {
    event.preventDefault();
    if (name.trim()) create.mutate(name.trim(), { onSuccess: () => setName("") });
  };
  return (
    <div className={classes.block}>
      <form className={classes.line} onSubmit={onSubmit} noValidate>
        <TextInput
          className={classes.field ?? ""}
          label={t.access.name}
          description={t.access.nameHint}
          autoComplete="off"
          maxLength={LONGEST_NAME}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <Button type="submit" variant="default" leftSection={<Icon name="plus" />} loading={create.isPending} disabled={!name.trim()}>
          {t.access.create}
        </Button>
      </form>
      {create.error && <ErrorNotice error={create.error} />}
      {create.data && (
        <Callout tone="good" role="status" title={t.access.created(create.data.name)}>
          <p>{t.access.createdHint}</p>
          <CommandBlock title={t.access.token} command={create.data.token} />
        </Callout>
      )}
      {error && !data && <ErrorNotice error={error} onRetry={() => void refetch()} />}
      {!data && !error && <Skeleton height={60} radius="md" aria-label={t.app.loading} />}
      {data?.length === 0 && <p className={classes.detail}>{t.access.none}</p>}
      {data && data.length > 0 && (
        <ul className={classes.list}>
          {data.map((token) => (
            <TokenRow key={token.id} token={token} />
          ))}
        </ul>
      )}
    </div>
  );
}
