import { useState } from "react";

const STORAGE_KEY = "affinage.prompts";
const MOST = 30;

function read(): string[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((prompt): prompt is string => typeof prompt === "string") : [];
  } catch {
    return [];
  }
}

/** Questions that are asked again and again, kept in this browser; the newest first. */
export function useSavedPrompts() {
  const [prompts, setPrompts] = useState(read);
  const write = (next: string[]): void => {
    setPrompts(next);
    try {
      localStorage.setItem(STORAGE_KEY, JSON.stringify(next));
    } catch {
      // The browser keeps nothing (private window, full): the prompts live as long as the page.
    }
  };
  return {
    prompts,
    save: (prompt: string) => write([prompt, ...prompts.filter((other) => other !== prompt)].slice(0, MOST)),
    forget: (prompt: string) => write(prompts.filter((other) => other !== prompt)),
  };
}
