"""The second look at a data set: one pass over its rows, then what only shows between rows.

Process entry: `python -m app.datasets.findings.analysing FOLDER` writes `analysis/` into the data set's folder and a line
of JSON to stdout for every piece of progress. A process of its own, as it takes a core for a second per 5 MB or more.
"""

import json
import math
import os
import resource
import shutil
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson

from app.contracts.analysis import REMEDIES, Analysis, Finding, FindingCode, FoundRow
from app.contracts.dataset import DatasetInfo, PlainExample
from app.datasets.equal_keys import group_equal
from app.datasets.findings.answers import find_refusal, is_placeholder
from app.datasets.findings.languages import find_language
from app.datasets.findings.near_duplicates import NearDuplicates, make_shingles, split_words
from app.datasets.findings.patterns import find_patterns
from app.datasets.findings.places import Places, write_places
from app.datasets.splitting import hash_text, identify, prompt_text
from app.storage.dataset_dir import DatasetDir
from app.storage.job_dir import write_atomically

MEMORY_BYTES = 3 << 30
_SHOWN_ROWS = 50
_SHOWN_CHARACTERS = 120
_EVERY_ROWS = 512
_FEWEST_ROWS = 50
"""Rows from which on a language or a length can be unusual."""
_MAIN_SHARE = 0.6
"""Share of the recognised rows from which on their language is the main one."""
_FENCE = 3.0
"""Interquartile ranges beyond the quartiles of log(length) where lengths are "far out" (Tukey 1977)."""
_TIMES_MEDIAN = 4.0
"""And at least this many times as long, or as short, as the median."""

Progress = Callable[[int, int], None]


def _untold(done_bytes: int, total_bytes: int) -> None:
    """Let the pass go on."""


def analyse(folder: DatasetDir, progress: Progress = _untold) -> Analysis:
    """Look at every row and write `analysis/`; `progress` is told the bytes done and in all."""
    started = time.monotonic()
    info = folder.read_info()
    scratch = folder.path / ".analysis.new"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    try:
        with _Pass(folder, info, scratch) as rows:
            rows.read(progress)
            findings = rows.conclude()
        analysis = Analysis(
            content_hash=info.content_hash,
            rows=len(rows.numbers),
            seconds=round(time.monotonic() - started, 3),
            languages=dict(rows.languages.most_common()),
            findings=findings,
        )
        for path in scratch.glob("band*"):
            path.unlink()
        write_atomically(scratch / "analysis.json", analysis.model_dump_json(indent=2))
        shutil.rmtree(folder.analysis_folder, ignore_errors=True)
        scratch.rename(folder.analysis_folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return analysis


class _Pass:
    """What is kept of the rows: some forty bytes each, and the places of findings."""

    def __init__(self, folder: DatasetDir, info: DatasetInfo, scratch: Path) -> None:
        self._folder, self._info, self._scratch = folder, info, scratch
        self._file = folder.rows_file.open("rb")
        self._offsets = array("Q")
        self._keys, self._prompts = array("Q"), array("Q")
        self._lengths = array("I")
        self.numbers = array("I")
        self._tongues = bytearray()
        self._tongue_names: list[str | None] = [None]
        self.languages: Counter[str] = Counter()
        self._heldout = bytearray()
        self._near = NearDuplicates(scratch, self._read_text)
        self._found: dict[FindingCode, Places] = {}
        self._judges_answers = info.mapping.shape not in ("text", "classification")
        self._one_answer = info.mapping.shape not in ("text", "preference", "unpaired")

    def __enter__(self) -> "_Pass":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, progress: Progress) -> None:
        """Take every row."""
        size, at = self._folder.rows_file.stat().st_size, 0
        with self._folder.rows_file.open("rb", buffering=1 << 20) as rows, self._folder.heldout_file.open("rb") as heldout:
            next_held = heldout.readline()
            for line in rows:
                held = bool(next_held) and line == next_held
                if held:
                    next_held = heldout.readline()
                self._heldout.append(held)
                self._offsets.append(at)
                at += len(line)
                self._take(orjson.loads(line))
                if len(self.numbers) % _EVERY_ROWS == 0:
                    progress(at, size)
        progress(size, size)

    def _take(self, example: PlainExample) -> None:
        place = len(self.numbers)
        self.numbers.append(example["row"])
        key, length = identify(example)
        self._keys.append(key)
        self._lengths.append(length)
        if self._one_answer:
            self._prompts.append(hash_text(prompt_text(example)))
        text = whole_text(example)
        words = split_words(text)
        self._near.add(make_shingles(text, words))
        self._note_language(find_language(text, words))
        seen: set[str] = set()
        for hit in find_patterns(text):
            if hit.code not in seen:
                seen.add(hit.code)
                shown = text[hit.start : hit.end]
                self._note(hit.code, place, shown if hit.code != "secrets" else f"{shown[:4]}…")
        if self._judges_answers:
            self._judge(place, example)

    def _judge(self, place: int, example: PlainExample) -> None:
        answers = [turn["content"] for turn in example.get("messages", ()) if turn["role"] == "assistant"]
        for answer in answers:
            if refusal := find_refusal(answer):
                self._note("refusals", place, refusal)
                break
        for answer in answers:
            if is_placeholder(answer):
                self._note("placeholders", place, answer)
                break

    def _note(self, code: FindingCode, place: int, text: str = "", other: int | None = None) -> None:
        self._found.setdefault(code, Places(_SHOWN_ROWS)).add(place, other, " ".join(text[:_SHOWN_CHARACTERS].split()))

    def _note_language(self, language: str | None) -> None:
        if language is not None:
            self.languages[language] += 1
        if language not in self._tongue_names:
            self._tongue_names.append(language)
        self._tongues.append(self._tongue_names.index(language))

    def conclude(self) -> list[Finding]:
        """Return the findings, those between rows included, and write their places."""
        repeats = bytearray(len(self.numbers))
        twin_of = array("I", range(len(self.numbers)))
        for group in group_equal(self._keys):
            for place in group[1:]:
                repeats[place], twin_of[place] = 1, group[0]
        self._note_pairs("exact_duplicates", twin_of)
        first_of = self._near.find(repeats)
        self._note_pairs("near_duplicates", first_of)
        self._find_overlap(first_of)
        asked_before = array("I", range(len(self._prompts)))
        for group in group_equal(self._prompts):
            for place in group[1:]:
                if self._keys[place] != self._keys[group[0]]:
                    asked_before[place] = group[0]
        self._note_pairs("contradictions", asked_before)
        params = self._find_languages() | self._find_lengths()
        if not self._near.complete:
            params["near_duplicates"] = {"complete": False}
        findings: list[Finding] = []
        for code in (code for code in REMEDIES if code in self._found):
            places = self._found[code]
            count = write_places(self._scratch, code, places)
            shown = [
                FoundRow(row=self.numbers[at], other=None if other is None else self.numbers[other], text=text)
                for at, other, text in places.shown
            ]
            findings.append(Finding(code=code, count=count, rows=shown, params=params.get(code, {})))
        return findings

    def _note_pairs(self, code: FindingCode, other_of: "array[int]") -> None:
        """Note every row whose other row is not itself, in the order of the file."""
        for place, other in enumerate(other_of):
            if other != place:
                self._note(code, place, other=other)

    def _find_overlap(self, first_of: "array[int]") -> None:
        """Note held-out rows that nearly repeat a row of the training."""
        if not any(self._heldout):
            return
        trained: dict[int, int] = {}
        members = {first for place, first in enumerate(first_of) if first != place}
        for place, first in enumerate(first_of):
            if first in members and not self._heldout[place]:
                trained.setdefault(first, place)
        for place, first in enumerate(first_of):
            if self._heldout[place] and first in trained:
                self._note("heldout_overlap", place, other=trained[first])

    def _find_languages(self) -> dict[str, dict[str, object]]:
        recognised = sum(self.languages.values())
        if recognised < _FEWEST_ROWS or len(self.languages) < 2:
            return {}
        (main, count), *others = self.languages.most_common()
        if count < _MAIN_SHARE * recognised:
            return {}
        usual = (0, self._tongue_names.index(main))
        for place, tongue in enumerate(self._tongues):
            if tongue not in usual:
                self._note("other_languages", place, self._tongue_names[tongue] or "")
        return {"other_languages": {"main": main, "others": ", ".join(f"{name} {number}" for name, number in others[:8])}}

    def _find_lengths(self) -> dict[str, dict[str, object]]:
        if len(self._lengths) < _FEWEST_ROWS:
            return {}
        count_of = Counter(self._lengths)
        lengths, below = sorted(count_of), 0
        quartiles: list[int] = []
        for length in lengths:
            below += count_of[length]
            while len(quartiles) < 3 and below > (len(quartiles) + 1) * (len(self._lengths) - 1) / 4:
                quartiles.append(length)
        low, median, high = (math.log(max(1, length)) for length in quartiles)
        spread = max(_FENCE * (high - low), 0.0)
        shortest = min(math.exp(low - spread), math.exp(median) / _TIMES_MEDIAN)
        longest = max(math.exp(high + spread), math.exp(median) * _TIMES_MEDIAN)
        for place, length in enumerate(self._lengths):
            if not shortest <= length <= longest:
                self._note("unusual_lengths", place, str(length))
        return {"unusual_lengths": {"shortest": math.ceil(shortest), "longest": math.floor(longest), "median": quartiles[1]}}

    def _read_text(self, place: int) -> str:
        end = self._offsets[place + 1] if place + 1 < len(self._offsets) else self._folder.rows_file.stat().st_size
        line = os.pread(self._file.fileno(), end - self._offsets[place], self._offsets[place])
        return whole_text(orjson.loads(line))


def whole_text(example: PlainExample) -> str:
    """Return every text of a row, one below the other."""
    messages = example.get("messages")
    if messages is None:
        return example.get("text", "")
    return "\n".join([message["content"] for message in (*messages, *example.get("rejected", ()))])


def main(arguments: list[str]) -> int:
    """Analyse one data set."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def tell(done_bytes: int, total_bytes: int) -> None:
        sys.stdout.write(json.dumps({"done_bytes": done_bytes, "total_bytes": total_bytes}) + "\n")
        sys.stdout.flush()

    analyse(DatasetDir(Path(arguments[0])), tell)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
