import { createContext, useContext } from "react";
import { createFormatter, type Formatter } from "@/lib/format";
import type { Language } from "@/lib/language";
import { en, type Messages } from "@/locales/en";

export interface Speech {
  language: Language;
  t: Messages;
  format: Formatter;
  setLanguage: (language: Language) => void;
}

/** The reader's language: sentences, numbers, and how to change it. */
export const SpeechContext = createContext<Speech>({
  language: "en",
  t: en,
  format: createFormatter("en"),
  setLanguage: () => undefined,
});

export const useMessages = (): Speech => useContext(SpeechContext);
