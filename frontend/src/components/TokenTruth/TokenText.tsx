import { Button } from "@mantine/core";
import { Fragment, useState } from "react";
import { useMessages } from "@/hooks/useMessages";
import type { TokenRow } from "@/types/api";
import classes from "./TokenTruth.module.css";

/** Tokens that are drawn at first: some screens full. */
const SHOWN = 1500;

type Token = TokenRow["tokens"][number];

function kindOf(token: Token, beyond: boolean): string {
  if (beyond) return "cut";
  if (token.special) return token.trained ? "special-trained" : "special";
  return token.trained ? "trained" : "context";
}

/** The tokens one by one: learned ones coloured and underlined, special ones framed, the cut drawn. Always text, never markup. */
export function TokenText({ row, limit }: { row: TokenRow; limit: number | undefined }) {
  const { t, format } = useMessages();
  const [all, setAll] = useState(false);
  const shown = all ? row.tokens : row.tokens.slice(0, SHOWN);
  return (
    <>
      {/* A region that scrolls has to be reachable by keyboard. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className={classes.tokens} tabIndex={0} role="region" aria-label={t.tokens.ofRow}>
        {shown.map((token, place) => (
          <Fragment key={place}>
            {place === limit && <span className={classes.cut}>{t.tokens.cutHere(format.number(limit))}</span>}
            <span className={classes.token} data-kind={kindOf(token, limit !== undefined && place >= limit)} title={`${place + 1}: ${token.id}`}>
              {token.text.replaceAll("\n", "⏎\n")}
            </span>
          </Fragment>
        ))}
      </div>
      {shown.length < row.tokens.length && (
        <Button size="xs" variant="default" onClick={() => setAll(true)}>
          {t.tokens.all(format.number(row.tokens.length))}
        </Button>
      )}
    </>
  );
}
