"""`prepare.py SHAPE_JSON TARGET MODELS`: write the rows of one comparison, and its model where it has to be built."""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from workload import SEED, SHARED, Shape

from app.contracts.dataset import Example, Message
from app.core.settings import Settings
from app.datasets.importing import import_file
from app.datasets.render import Renderer
from app.datasets.template import PLAIN_TEMPLATE
from app.storage.dataset_dir import DatasetDir
from app.storage.model_store import ModelStore
from app.training.batching import epoch_order

PROMPT_SHARE = 0.25
"""Of a row that is cut out of a text: so much is the question."""


def write_gpt2(folder: Path) -> Path:
    """Write GPT-2's 124M shape with random bfloat16 weights and OpenAI's tokenizer; return the folder.

    Dropout is 0, as the engine trains it. Without a chat template every trainer would write conversations its own way,
    so the folder holds the engine's plain one.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    if (folder / "tokenizer_config.json").exists():
        return folder
    source, end = SHARED / "gpt2_tokenizer", "<|endoftext|>"
    words = json.loads((source / "encoder.json").read_text("utf-8"))
    pairs = [tuple(line.split()) for line in (source / "vocab.bpe").read_text("utf-8").splitlines()[1:] if line]
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    torch.manual_seed(SEED)
    config = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    GPT2LMHeadModel(config).to(torch.bfloat16).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end, pad_token=end, chat_template=PLAIN_TEMPLATE
    )
    fast.save_pretrained(folder)
    return folder


def find_model(name: str, models: Path) -> Path:
    """Return the model's folder; build it first where the bench has to."""
    if name == "gpt2":
        return write_gpt2(models / "gpt2-124m")
    if name != "embedded":
        return Path(name).absolute()
    from app.training.embedded import materialise

    folder = ModelStore.from_settings(Settings()).embedded_folder
    materialise(folder)
    return folder


def import_examples(file: Path) -> Iterator[Example]:
    """Yield the usable rows of a file whose only answer comes last."""
    with tempfile.TemporaryDirectory() as folder:
        target = DatasetDir(Path(folder) / "rows")
        import_file(file, filename=file.name, name=None, target=target, mapping=None)
        for example in target.read_examples():
            turns = example.messages or []
            if [turn.role for turn in turns].count("assistant") == 1 and turns[-1].role == "assistant":
                yield example


def cut_text(renderer: Renderer, model: Path, length: int) -> Iterator[Example]:
    """Yield rows of `length` tokens (at most three fewer) out of the texts below shared/data."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    files = [SHARED / "llamafactory" / "c4_demo.jsonl"]
    texts = [json.loads(line)["text"] for file in files for line in file.read_text("utf-8").splitlines() if line]
    texts.append((SHARED / "llamafactory" / "wiki_demo.txt").read_text("utf-8"))
    ids = tokenizer("\n".join(texts), add_special_tokens=False)["input_ids"]
    at = number = 0
    while at + length < len(ids):
        asked = round(PROMPT_SHARE * length)
        count = length - asked
        for _ in range(8):
            question, answer = tokenizer.decode(ids[at : at + asked]), tokenizer.decode(ids[at + asked : at + asked + count])
            turns = [Message(role="user", content=question), Message(role="assistant", content=answer)]
            example = Example(row=number + 1, messages=turns)
            left = length - renderer.encode(example, 1 << 20).full_length
            if 0 <= left <= 3:
                number += 1
                yield example
                break
            count += left
            asked = min(asked, max(1, count // 2))  # a short row: the template's own tokens count too
        at += length


def main() -> None:
    """Write train.jsonl, ordered.jsonl, heldout.jsonl and workload.json."""
    shape, target, models = Shape(**json.loads(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
    model = find_model(shape.model, models)
    renderer = Renderer.load(model)
    source = cut_text(renderer, model, shape.length) if shape.data == "text" else import_examples(Path(shape.data))
    rows: list[Example] = []
    for example in source:
        if any(renderer.encode(example, shape.length).trained):
            rows.append(example)
        if len(rows) == shape.rows + shape.heldout:
            break
    if len(rows) < shape.rows + shape.heldout:
        sys.exit(f"{shape.data} has {len(rows)} usable rows, {shape.rows + shape.heldout} are asked for")
    train, heldout = rows[: shape.rows], rows[shape.rows :]
    ordered = [train[index] for epoch in range(shape.epochs) for index in epoch_order(len(train), SEED, epoch)]
    for name, examples in (("train", train), ("ordered", ordered), ("heldout", heldout)):
        lines = "".join(example.model_dump_json(exclude_none=True) + "\n" for example in examples)
        (target / f"{name}.jsonl").write_text(lines, "utf-8")
    encoded = [renderer.encode(example, shape.length) for example in ordered]
    counts = [len(row.ids) for row in encoded]
    content = {
        "shape": asdict(shape),
        "model": str(model),
        "row_tokens": counts,
        "answer_share": sum(sum(row.trained) for row in encoded) / sum(counts),
    }
    (target / "workload.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
