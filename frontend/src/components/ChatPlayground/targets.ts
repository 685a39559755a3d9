/** Who can be asked: each target has a key for the picker, a name for people, and what the API wants. */
import type { Messages } from "@/locales/en";
import type { ChatTarget, Checkpoint, Job, Model } from "@/types/api";

export interface Voice {
  key: string;
  label: string;
  target: ChatTarget;
  /** Whether it is what a training has learned. */
  tuned: boolean;
}

export interface VoiceGroup {
  title: string;
  voices: Voice[];
}

export const modelKey = (id: string): string => `model:${id}`;
export const jobKey = (id: string): string => `job:${id}`;

/** Every voice that can be chosen, in the groups of the picker; checkpoints only of trainings that are chosen. */
export function listVoices(
  models: Model[],
  jobs: Job[],
  checkpoints: Map<string, Checkpoint[]>,
  words: Messages["playground"],
  number: (value: number) => string,
): VoiceGroup[] {
  const trained = jobs.filter((job) => job.can_chat);
  const groups: VoiceGroup[] = [
    {
      title: words.trained,
      voices: trained.map((job) => ({ key: jobKey(job.job_id), label: job.name, target: { job_id: job.job_id }, tuned: true })),
    },
    {
      title: words.originals,
      voices: models
        .filter((model) => model.weights === "ready")
        .map((model) => ({ key: modelKey(model.id), label: model.name, target: { model: model.id }, tuned: false })),
    },
  ];
  for (const job of jobs) {
    const found = (checkpoints.get(job.job_id) ?? []).filter((checkpoint) => checkpoint.whole);
    if (found.length === 0) continue;
    groups.push({
      title: words.checkpoints(job.name),
      voices: found.map((checkpoint) => ({
        key: `${jobKey(job.job_id)}:${checkpoint.name}`,
        label: words.checkpoint(job.name, number(checkpoint.step)) + (checkpoint.best ? ` (${words.best})` : ""),
        target: { job_id: job.job_id, checkpoint: checkpoint.name },
        tuned: true,
      })),
    });
  }
  return groups.filter((group) => group.voices.length > 0);
}

/** Names of jobs may repeat: equal labels get their key's end behind them. */
export function distinct(groups: VoiceGroup[]): VoiceGroup[] {
  const counts = new Map<string, number>();
  for (const { voices } of groups) for (const { label } of voices) counts.set(label, (counts.get(label) ?? 0) + 1);
  const named = (voice: Voice): Voice =>
    (counts.get(voice.label) ?? 0) > 1 ? { ...voice, label: `${voice.label} · ${voice.key.slice(-6)}` } : voice;
  return groups.map((group) => ({ ...group, voices: group.voices.map(named) }));
}
