import { createContext, useContext } from "react";
import type { Formatter } from "@/lib/format";
import type { Language } from "@/lib/language";
import type { Messages } from "@/locales/en";

export interface Speech {
  language: Language;
  t: Messages;
  format: Formatter;
  setLanguage: (language: Language) => void;
}

/** The reader's language: sentences, numbers, and how to change it. */
export const SpeechContext = createContext<Speech | undefined>(undefined);

export function useMessages(): Speech {
  const speech = useContext(SpeechContext);
  if (!speech) throw new Error("useMessages needs a SpeechProvider above it.");
  return speech;
}
