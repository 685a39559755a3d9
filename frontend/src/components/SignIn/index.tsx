import { Button, PasswordInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState, type FormEvent, type ReactNode } from "react";
import { sessionQuery, useSignIn } from "@/api/access";
import { BrandMark } from "@/components/BrandMark";
import { ErrorNotice } from "@/components/ErrorNotice";
import { Preferences } from "@/components/Preferences";
import { useMessages } from "@/hooks/useMessages";
import classes from "./SignIn.module.css";

/** Shows the page to who may see it, and the sign-in form to everybody else. */
export function SignInGate({ children }: { children: ReactNode }) {
  const { data } = useQuery(sessionQuery);
  return data?.required && !data.signed_in ? <SignIn /> : children;
}

/** The code of a launch link stands after `#`, so that it reaches no server log; it is taken out of the address at once. */
function takeCode(): string | undefined {
  const code = new URLSearchParams(window.location.hash.slice(1)).get("code") ?? undefined;
  if (code) window.history.replaceState(window.history.state, "", window.location.pathname);
  return code;
}

export function SignIn() {
  const { t } = useMessages();
  const [token, setToken] = useState("");
  const signIn = useSignIn();
  const { mutate } = signIn;
  const tried = useRef(false);

  useEffect(() => {
    if (tried.current) return;
    tried.current = true;
    const code = takeCode();
    if (code) mutate({ code });
  }, [mutate]);

  const onSubmit = (event: FormEvent): void => {
    event.preventDefault();
    if (token.trim()) signIn.mutate({ token: token.trim() });
  };
  return (
    <main className={classes.screen}>
      <div className={classes.card}>
        <div className={classes.brand}>
          <BrandMark />
          <span>Affinage</span>
        </div>
        <h1 className={classes.title}>{t.access.signIn}</h1>
        <p className={classes.lead}>{t.access.signInLead}</p>
        <form className={classes.form} onSubmit={onSubmit} noValidate>
          <PasswordInput
            label={t.access.token}
            placeholder="afn_…"
            autoComplete="off"
            value={token}
            onChange={(event) => {
              setToken(event.currentTarget.value);
              if (!signIn.isPending) signIn.reset();
            }}
            visibilityToggleButtonProps={{ "aria-label": t.access.showToken }}
          />
          {signIn.error && <ErrorNotice error={signIn.error} />}
          <Button type="submit" loading={signIn.isPending} disabled={!token.trim()} fullWidth>
            {t.access.signInButton}
          </Button>
        </form>
        <p className={classes.hint}>
          {t.access.signInHint} <code>affinage tokens link</code>
        </p>
        <Preferences />
      </div>
    </main>
  );
}
