/** A file name for rows that were pasted; the server goes by the content, the ending only helps where both would do. */
export function nameOfText(text: string, stem: string): string {
  const start = text.trimStart();
  if (start.startsWith("[")) return `${stem}.json`;
  if (start.startsWith("{")) return `${stem}.${/\}\s*\n\s*\{/.test(start) ? "jsonl" : "json"}`;
  const [header = ""] = start.split("\n", 1);
  return `${stem}.${/[,;\t|]/.test(header) ? "csv" : "txt"}`;
}
