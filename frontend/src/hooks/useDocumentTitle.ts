import { useEffect } from "react";

/** Names the tab; the product's name follows. */
export function useDocumentTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · Affinage`;
  }, [title]);
}
