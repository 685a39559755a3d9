import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useState, type ReactNode } from "react";
import { setRequestLanguage } from "@/api/client";
import { SpeechContext, type Speech } from "@/hooks/useMessages";
import { createFormatter } from "@/lib/format";
import { firstLanguage, rememberLanguage, type Language } from "@/lib/language";
import type { Messages } from "@/locales/en";

/** A language is loaded when it is chosen, not before. */
const LOADERS: Record<Language, () => Promise<Messages>> = {
  en: async () => (await import("@/locales/en")).en,
  fr: async () => (await import("@/locales/fr")).fr,
};

interface Spoken {
  language: Language;
  t: Messages;
}

async function load(language: Language): Promise<Spoken> {
  const t = await LOADERS[language]();
  setRequestLanguage(language);
  document.documentElement.lang = language;
  return { language, t };
}

/** Nothing is drawn before the words are there, so that no reader sees the wrong language first. */
export function SpeechProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const [spoken, setSpoken] = useState<Spoken>();

  useEffect(() => {
    let current = true;
    void load(firstLanguage()).then((loaded) => current && setSpoken(loaded));
    return () => {
      current = false;
    };
  }, []);

  const speech = useMemo<Speech | undefined>(
    () =>
      spoken && {
        ...spoken,
        format: createFormatter(spoken.language),
        setLanguage: (language) => {
          rememberLanguage(language);
          void load(language).then((loaded) => {
            setSpoken(loaded);
            // Sentences from the server follow the reader's language.
            void client.invalidateQueries();
          });
        },
      },
    [spoken, client],
  );
  return speech ? <SpeechContext.Provider value={speech}>{children}</SpeechContext.Provider> : null;
}
