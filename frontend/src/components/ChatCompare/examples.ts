import type { DatasetRow } from "@/types/api";

const MOST = 4;
/** Longer questions make poor buttons. */
const CHARACTERS = 110;

/** A few short first questions out of the data, spread over the rows that were read. */
export function exampleQuestions(rows: DatasetRow[]): string[] {
  const questions = rows
    .map((row) => row.messages?.find((message) => message.role === "user")?.content ?? "")
    .filter((question) => question.length > 0 && question.length <= CHARACTERS);
  const distinct = [...new Set(questions)];
  const stride = Math.max(1, Math.floor(distinct.length / MOST));
  return distinct.filter((_, index) => index % stride === 0).slice(0, MOST);
}
