import { useEffect, useState } from "react";

interface FileDropTarget {
  onFile: (file: File) => void;
  /** Text with several lines was pasted outside of a field. */
  onText: (text: string) => void;
  enabled: boolean;
}

const holdsFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
const inField = (target: EventTarget | null): boolean => target instanceof Element && target.closest("input, textarea, [contenteditable]") !== null;

/** Takes what is dropped or pasted anywhere on the page; returns whether a file hovers over it. */
export function useFileDrop({ onFile, onText, enabled }: FileDropTarget): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const onOver = (event: DragEvent): void => {
      if (!holdsFiles(event)) return;
      event.preventDefault(); // else the browser would open the file
      setOver(enabled);
    };
    const onLeave = (event: DragEvent): void => {
      if (event.relatedTarget === null) setOver(false);
    };
    const onDrop = (event: DragEvent): void => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      setOver(false);
      const file = event.dataTransfer?.files[0];
      if (file && enabled) onFile(file);
    };
    const onPaste = (event: ClipboardEvent): void => {
      if (!enabled || inField(event.target)) return;
      const file = event.clipboardData?.files[0];
      const text = event.clipboardData?.getData("text/plain") ?? "";
      if (file) onFile(file);
      else if (text.trim().includes("\n")) onText(text);
    };
    window.addEventListener("dragover", onOver);
    window.addEventListener("dragleave", onLeave);
    window.addEventListener("drop", onDrop);
    window.addEventListener("paste", onPaste);
    return () => {
      window.removeEventListener("dragover", onOver);
      window.removeEventListener("dragleave", onLeave);
      window.removeEventListener("drop", onDrop);
      window.removeEventListener("paste", onPaste);
    };
  }, [onFile, onText, enabled]);
  return over;
}
