/** English of the data pages: rows as tokens, presets, bringing and mending data. */
const plural = (count: number, one: string, many: string): string => (count === 1 ? one : many);

export const tokens = {
  title: "The truth about the tokens",
  hint: "Exactly what the model will see, in its own template, before anything is spent.",
  model: "Read by",
  notReady: "Choose a model that is on this machine.",
  median: "Typical row",
  longest: "Longest row",
  count: (count: string, raw: number) => `${count} ${plural(raw, "token", "tokens")}`,
  trained: "Learned",
  trainedHint: "share of the tokens",
  cut: "Longer than the limit",
  cutNone: "none",
  cutRows: (rows: string, tokens: string) => `${rows} of the rows, ${tokens} of the tokens lost`,
  cutWhole: (rows: string) => `${rows} of the rows, divided`,
  sample: (counted: string, all: string) => `Looked at ${counted} of ${all} rows.`,
  histogram: "Length of the rows in tokens",
  bar: (first: string, last: string, rows: string, raw: number) => `${first} to ${last} tokens: ${rows} ${plural(raw, "row", "rows")}`,
  lastBar: (first: string, rows: string, raw: number) => `${first} tokens and more: ${rows} ${plural(raw, "row", "rows")}`,
  limit: (length: string) => `limit ${length}`,
  lengths: "Lengths as a table",
  from: "Tokens",
  rows: "Rows",
  checks: "Checks",
  status: { passed: "Passed", warning: "Look at this", failed: "Stops the start" },
  atFault: "Rows:",
  row: "One row as tokens",
  ofRow: "Its tokens",
  rowNumber: "Row",
  show: "Show",
  preferred: "Preferred answer",
  rejected: "Rejected answer",
  legend: { trained: "learned", context: "context", special: "special token", cut: "after the cut" },
  cutHere: (length: string) => `cut at ${length} tokens`,
  templates: { chat: "Written with the model’s own chat template.", plain: "This model has no chat template: written with the stated plain one." },
  fallbacks: {
    last_turn: "The template rewrites earlier turns, so only the last answer is learned.",
    constructed: "The template cannot write this answer as it stands; it is taken from the data and closed by the template’s end token.",
  },
  rowCount: (total: string, learned: string) => `${total} tokens, ${learned} learned`,
  all: (count: string) => `Show all ${count} tokens`,
};

export const presets = {
  label: "Presets by task",
  hint: "A preset changes nothing until you take it over; every value stays adjustable in the advanced settings.",
  usual: "usual for these rows",
  apply: (name: string) => `Take over “${name}”`,
};

export const bring = {
  anywhere: "Drop the file anywhere on this page, choose it, or paste rows.",
  paste: "Paste rows",
  pasteLabel: "Rows to import",
  pasteHint: "CSV with a header, JSON, JSON Lines or plain text. Copied from a spreadsheet works too.",
  pasteName: "pasted",
  import: "Import",
  speed: (sent: string, total: string, perSecond: string) => `${sent} of ${total} at ${perSecond}/s`,
  left: (duration: string) => `${duration} left`,
  stop: "Stop",
  stages: { unpacking: "Unpacking the file", reading: "Reading and checking the rows", splitting: "Choosing the held-out rows" },
};

export const findings = {
  title: "A second look at the rows",
  hint: "Repeats, contradictions, refusals, personal data and the like. A fix makes a new version; this one stays as it is.",
  running: (share: string) => `Looking at the rows: ${share}`,
  failed: "The second look broke off; the rows can be trained all the same. The reason is in the server’s log.",
  none: "Nothing to remark.",
  languages: (list: string) => `Languages of the rows: ${list}.`,
  fixes: { drop: "Leave out", mask: "Mask", move: "Move to training" },
  other: (row: string) => `see row ${row}`,
  more: (count: string) => `Show ${count} more`,
  further: (count: string) => `and ${count} more`,
  edit: "Edit",
  add: "Add a row",
  editHint: "Saving makes a new version; this one stays as it is.",
  otherColumns: (count: number) => `${count} ${plural(count, "column that is not used", "columns that are not used")}`,
  save: "Save as a new version",
  leaveOut: "Leave this row out",
  leaveOutBad: (count: string, raw: number) => `Leave out ${count} ${plural(raw, "unusable row", "unusable rows")}`,
  badRows: "Download the unusable rows",
};

export const versions = {
  title: "Versions",
  hint: "Each one is kept, and a job keeps the one that it was started with.",
  number: (version: number) => `Version ${version}`,
  first: "the file as it was imported",
  shape: "Rows as JSON Lines",
  download: "Download",
};
