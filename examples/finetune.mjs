/*
 * The same in JavaScript, with the official client. Only the address is Affinage's, from the environment:
 *
 *     OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=any node examples/finetune.mjs
 */
import { createReadStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const client = new OpenAI();

const training = await client.files.create({ file: createReadStream(here("preferences.jsonl")), purpose: "fine-tune" });

let job = await client.fineTuning.jobs.create({
  model: "gpt-4o-mini-2024-07-18",
  training_file: training.id,
  suffix: "polite",
  method: { type: "dpo", dpo: { hyperparameters: { beta: 0.1, n_epochs: 1 } } },
});
console.log("job", job.id, job.status);

while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await sleep(500);
  job = await client.fineTuning.jobs.retrieve(job.id);
}
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 100 })) console.log(event.level, event.message);
if (!job.fine_tuned_model) throw new Error(`${job.status}: ${JSON.stringify(job.error)}`);

const messages = [{ role: "user", content: "How do I send a letter to Oslo?" }];
const answer = await client.chat.completions.create({ model: job.fine_tuned_model, messages, temperature: 0, max_tokens: 16 });
console.log(answer.model, "says:", answer.choices[0].message.content);

let streamed = "";
const stream = await client.chat.completions.create({
  model: job.fine_tuned_model,
  messages,
  temperature: 0,
  max_tokens: 16,
  stream: true,
});
for await (const chunk of stream) streamed += chunk.choices[0]?.delta?.content ?? "";
console.log("streamed:", streamed);
