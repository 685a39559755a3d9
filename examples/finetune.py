"""A fine-tuning script for OpenAI's service, as it stands in many repositories.

It runs against Affinage with nothing changed in it but the address, which the official client reads from the environment:

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=any python examples/finetune.py
"""

import time
from pathlib import Path

from openai import OpenAI

HERE = Path(__file__).parent
client = OpenAI()

with (HERE / "mail.jsonl").open("rb") as rows:
    training = client.files.create(file=rows, purpose="fine-tune")
with (HERE / "mail-validation.jsonl").open("rb") as rows:
    validation = client.files.create(file=rows, purpose="fine-tune")

job = client.fine_tuning.jobs.create(
    model="gpt-4o-mini-2024-07-18",
    training_file=training.id,
    validation_file=validation.id,
    suffix="mail",
    method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 4}}},
)
print("job", job.id, job.status)

while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.5)
    job = client.fine_tuning.jobs.retrieve(job.id)
for event in reversed(list(client.fine_tuning.jobs.list_events(job.id, limit=100))):
    print(event.level, event.message)
if job.fine_tuned_model is None:
    raise SystemExit(f"{job.status}: {job.error}")

question = [
    {"role": "system", "content": "You sort mail. Answer with the label alone."},
    {"role": "user", "content": "A parcel for Oslo, please."},
]
answer = client.chat.completions.create(model=job.fine_tuned_model, messages=question, temperature=0, max_tokens=16)
print(answer.model, "says:", answer.choices[0].message.content)
print("tokens:", answer.usage.total_tokens)

stream = client.chat.completions.create(
    model=job.fine_tuned_model, messages=question, temperature=0, max_tokens=16, stream=True
)
print("streamed:", "".join(chunk.choices[0].delta.content or "" for chunk in stream))
