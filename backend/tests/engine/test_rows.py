"""Rows as token ids in a file: what is learned of them, and that a run holds few of them in memory."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from app.contracts.dataset import Example, Message
from app.datasets.render import Renderer
from app.training import rows as rows_module
from app.training.batching import Row
from app.training.methods.kto import Mismatched
from app.training.row_file import RowFile, longest_first, write_rows
from app.training.rows import divide, encode_rows
from app.training.stopping import Stopped
from tests.engine.tiny import encode, examples, make_job
from tests.unit.datasets import models

ROWS = [
    Row(ids=[5, 2**31 - 1, 0, 7], targets=[1, 3], row=1),
    Row(ids=[9], targets=[], row=2**31 - 1, desired=False),
    Row(ids=list(range(1000)), targets=list(range(1, 1000)), row=3),
]


NO_END_TEMPLATE = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
TEMPLATES: dict[str, Callable[[Path], Path]] = {
    "chatml": models.chatml_model,
    "gemma": models.gemma_model,
    "llama 2": lambda folder: models.llama2_model(folder, legacy=True),
    "mistral": lambda folder: models.llama2_model(folder, legacy=False, template=models.MISTRAL_TEMPLATE),
    "no template": lambda folder: models.save_model(
        folder, models.sentencepiece_tokenizer(["<s>", "</s>"], legacy=True), None, **models.SENTENCEPIECE
    ),
    "no end": lambda folder: models.chatml_model(folder, NO_END_TEMPLATE),
    "last turn": lambda folder: models.chatml_model(folder, models.THINKING_TEMPLATE),
    "constructed": lambda folder: models.chatml_model(folder, models.OPENED_THINKING_TEMPLATE),
}


def write(file: Path, rows: list[Row]) -> RowFile:
    with write_rows(file) as writer:
        for row in rows:
            writer.add(row)
        writer.finish(b"what they are")
    return RowFile(file)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    stored = write(tmp_path / "rows", ROWS)
    assert list(stored) == ROWS
    assert (len(stored), stored.lengths) == (3, [4, 1, 1000])
    assert (stored[-1], stored[:2]) == (ROWS[2], ROWS[:2])
    assert stored.summary == b"what they are"
    with pytest.raises(IndexError):
        stored[3]
    empty = write(tmp_path / "rows", [])
    assert (list(empty), empty.lengths) == ([], [])
    assert list(stored) == ROWS  # what was opened stays whole when another file takes its name


def test_a_file_that_was_not_finished_never_has_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"), write_rows(tmp_path / "encoded" / "rows") as writer:
        writer.add(ROWS[0])
        raise OSError("the disk is full")
    assert list((tmp_path / "encoded").iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 15, 16, 40, -1, -8])
def test_a_damaged_file_is_refused(tmp_path: Path, size: int) -> None:
    write(tmp_path / "rows", ROWS)
    content = (tmp_path / "rows").read_bytes()
    (tmp_path / "rows").write_bytes(content[:size])
    with pytest.raises(ValueError, match="file of rows"):
        RowFile(tmp_path / "rows")


def test_the_longest_rows_come_first_from_a_file_as_from_a_list(tmp_path: Path) -> None:
    rows = [Row(ids=[1] * length, targets=[1], row=place) for place, length in enumerate([3, 9, 4, 9, 2], 1)]
    for source in (rows, write(tmp_path / "rows", rows)):
        assert [[row.row for row in part] for part in longest_first(source, 2)] == [[2, 4], [3, 1], [5]]


def test_rows_are_encoded_once_and_again_only_when_something_changed(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(8), heldout=[])
    model = tmp_path / "model"
    model.mkdir()
    for file in llama.glob("*.json"):
        (model / file.name).write_bytes(file.read_bytes())
    calls: list[int] = []

    def run(max_length: int = 256) -> list[Row]:
        renderer = Renderer.load(model)
        whole = renderer.encode_all
        monkeypatch.setattr(renderer, "encode_all", lambda rows, limit: calls.append(len(rows)) or whole(rows, limit))
        file = job_dir.encoded / "train.rows"
        return list(
            encode_rows(
                job_dir.train_file, file, renderer, max_length=max_length, long_rows="truncate", check_stop=lambda: None
            ).rows
        )

    first = run()
    assert (calls, run()) == ([8], first)
    run(max_length=200)
    assert calls == [8, 8]
    job_dir.train_file.write_text("".join(row.model_dump_json() + "\n" for row in examples(9)))
    assert len(run(max_length=200)) == 9
    config = model / "tokenizer_config.json"
    config.write_text(config.read_text().replace("assistant", "helper"))
    again = run(max_length=200)
    assert calls == [8, 8, 9, 9]
    assert again[0] != first[0]
    # A crash while the file was written, and one that left half of it.
    (job_dir.encoded / ".train.rows.tmp").write_bytes(b"half")
    (job_dir.encoded / "train.rows").write_bytes((job_dir.encoded / "train.rows").read_bytes()[:100])
    assert run(max_length=200) == again
    assert [file.name for file in job_dir.encoded.iterdir()] == ["train.rows"]


def test_a_wish_to_stop_is_heard_between_blocks_of_rows(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(30), heldout=[])
    monkeypatch.setattr(rows_module, "ROWS_TOGETHER", 10)
    asked: list[None] = []

    def check_stop() -> None:
        asked.append(None)
        if len(asked) == 2:
            raise Stopped("cancelled")

    with pytest.raises(Stopped):
        encode_rows(
            job_dir.train_file,
            job_dir.encoded / "train.rows",
            Renderer.load(llama),
            max_length=64,
            long_rows="truncate",
            check_stop=check_stop,
        )
    assert len(asked) == 2
    assert list(job_dir.encoded.iterdir()) == []


def test_rows_do_not_depend_on_how_many_are_encoded_together(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for name, together, size in (("one", 1, 1 << 20), ("all", 512, 1 << 20), ("by size", 512, 300)):
        monkeypatch.setattr(rows_module, "ROWS_TOGETHER", together)
        monkeypatch.setattr(rows_module, "BYTES_TOGETHER", size)
        job_dir = make_job(tmp_path / name, llama, train=examples(20), heldout=[])
        encoded = encode(job_dir, 90)
        results.append((list(encoded.rows), encoded.counts.model_copy(update={"key": ""})))
    assert results[0] == results[1] == results[2]
    assert len(results[0][0]) + results[0][1].untrained == 20
    assert results[0][1].truncated > 0


def talk(number: int, *contents: str) -> list[Message]:
    roles = ("user", "assistant")
    return [Message(role=roles[place % 2], content=f"{content} {number}") for place, content in enumerate(contents)]  # type: ignore[arg-type]


def rows_for(method: str) -> tuple[list[Example], list[str]]:
    """Return rows as the method takes them, two turns before the last answer, and the answers that it learns of each."""
    asked, kept, other = ("QUESTION", "<think>hm</think>EARLIER", "AGAIN"), "WANTED", "AVOIDED"
    if method == "pretraining":
        return [Example(row=n, text=f"The WHOLE {n}") for n in range(1, 5)], ["WHOLE"]
    if method == "classification":
        return [Example(row=n, messages=talk(n, "QUESTION", "WANTED")) for n in range(1, 5)], ["WANTED"]
    if method == "dpo":
        both = [(talk(n, *asked, kept), talk(n, *asked, other)) for n in range(1, 5)]
        return [Example(row=n, messages=one, rejected=two) for n, (one, two) in enumerate(both, 1)], ["WANTED", "AVOIDED"]
    if method == "kto":
        turns = [talk(n, *asked, kept if n % 2 else other) for n in range(1, 5)]
        return [Example(row=n, messages=one, desirable=n % 2 == 1) for n, one in enumerate(turns, 1)], ["WANTED", "AVOIDED"]
    return [Example(row=n, messages=talk(n, *asked, kept)) for n in range(1, 5)], ["WANTED"]


@pytest.mark.parametrize("method", ["sft", "classification", "pretraining", "dpo", "kto"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_method_trains_the_answer_and_its_end_under_every_template(template: str, method: str, tmp_path: Path) -> None:
    renderer = Renderer.load(TEMPLATES[template](tmp_path / "model"))
    examples_of, learned = rows_for(method)
    file = tmp_path / "train.jsonl"
    file.write_text("".join(example.model_dump_json(exclude_none=True) + "\n" for example in examples_of), "utf-8")
    found = encode_rows(
        file, tmp_path / "train.rows", renderer, max_length=4096, long_rows="truncate", check_stop=lambda: None,
        judged=method in ("dpo", "kto"),
    )  # fmt: skip
    rows = list(found.rows)
    assert len(rows) == (8 if method == "dpo" else 4)
    rows += list(Mismatched(found.rows, 4096)) if method == "kto" else []
    for place, row in enumerate(rows):
        text = renderer.decode([row.ids[target] for target in row.targets], skip_special=False)
        assert row.ids[row.targets[-1]] in renderer.stop_ids, text
        assert row.targets[-1] == len(row.ids) - 1
        answer = learned[place % len(learned)] if place < 4 or method == "dpo" else "D "
        assert answer in text and "QUESTION" not in text and "AGAIN" not in text
        assert method == "sft" or "EARLIER" not in text


def test_rows_are_cut_dropped_and_counted(llama: Path, tmp_path: Path) -> None:
    rows = examples(8)
    job_dir = make_job(tmp_path / "job", llama, train=rows, heldout=[])
    renderer = Renderer.load(llama)
    lengths = [renderer.encode(row, 10_000).full_length for row in rows]
    limit = sorted(lengths)[5]
    cut = encode(job_dir, limit)
    assert cut.counts.truncated + cut.counts.untrained == sum(length > limit for length in lengths) > 0
    assert max(len(row.ids) for row in cut.rows) <= limit
    dropped = encode(job_dir, limit, "drop")
    assert dropped.counts.dropped == sum(length > limit for length in lengths)
    nothing = encode(job_dir, 8)
    assert (len(nothing.rows), nothing.counts.untrained) == (0, 8)


def test_a_long_row_is_split_so_that_each_learned_token_is_learned_once() -> None:
    ids = list(range(100, 120))
    trained = [index in {3, 4, 5, 6, 7, 12, 13, 19} for index in range(20)]
    rows = divide(ids, trained, 6)
    assert all(len(row.ids) <= 6 for row in rows)
    learned = [(row.ids[target - 1], row.ids[target]) for row in rows for target in row.targets]
    assert learned == [(ids[i - 1], ids[i]) for i in range(20) if trained[i]]
    assert divide(ids, [False] * 20, 6) == []


def test_split_keeps_every_answer_and_counts_the_rows(llama: Path, tmp_path: Path) -> None:
    job_dir = make_job(tmp_path / "job", llama, train=examples(8), heldout=[])
    whole = encode(job_dir)
    pieces = encode(job_dir, 40, "split")
    assert pieces.counts.divided == 8
    assert (pieces.counts.truncated, pieces.counts.dropped, pieces.counts.untrained) == (0, 0, 0)
    assert len(pieces.rows) > 8
    assert pieces.counts.trained_tokens == whole.counts.trained_tokens
    assert max(len(row.ids) for row in pieces.rows) <= 40
    assert list(encode(job_dir, 512, "split").rows) == list(whole.rows)


def resident_bytes() -> int:
    match = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    """6 million tokens, which take 24 MB in the file and much more as lists: written and read within a third of that."""
    ids = torch.arange(1000, 1300).tolist()
    targets = list(range(200, 300))
    before = resident_bytes()
    with write_rows(tmp_path / "rows") as writer:
        for number in range(20_000):
            writer.add(Row(ids, targets, number))
        writer.finish(b"")
    stored = RowFile(tmp_path / "rows")
    assert (tmp_path / "rows").stat().st_size > 24e6
    total = sum(len(row.targets) for part in longest_first(stored, 32) for row in part)
    assert total == 20_000 * len(targets)
    assert resident_bytes() - before < 8e6
