"""The parity certificate: an export is loaded back by engines that did not write it, and must answer like the trained model.

Where the bounds come from:
- Weights in 16 or 32 bits must leave the answers alone: the share of equal likeliest tokens (0.995 for bf16, 0.999 for fp16 and
  fp32) and 0.002 nats are this project's requirement, not a finding. What the embedded model reaches: docs/benchmarks/exports.md.
- Packed weights: guesses with room around what was measured on SmolLM2-135M alone (contracts/export.py: MEASURED). They only tell
  a lossy file from a broken one; what few bits cost depends on the model and is shown. For `gguf-q8_0` 0.95 was too little room:
  sound files of 66 short rows full of HTML reached 0.952 in llama.cpp at 537 places, and 0.933 at the first 150.
- The share of equal prompts (0.95): a guess.
"""

import hashlib
import importlib.metadata
import importlib.util
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from app.contracts.export import Agreement, Certificate, ExportFormat, ExportPhase, PromptCheck
from app.contracts.job import TrainingJob
from app.contracts.plan import Notice
from app.datasets.render import Renderer
from app.datasets.tokenizer_files import load_tokenizer_files
from app.export import llama_cpp, loading_back
from app.export.places import Compared, choose, thinned
from app.export.scoring import Scores, divergence, first, score, top1_agreement
from app.hardware.cores import list_usable_cores
from app.storage.job_dir import JobDir, utc_now
from app.training.loading import count_free_cores
from app.training.lora import WEIGHTS_NAME

log = logging.getLogger(__name__)

LLAMA_CPP_PLACES = 600
LEAST_EQUAL_PROMPTS = 0.95
"""A message may hold text that looks like a control token, which training keeps as text and llama.cpp does not."""
_TOP1 = {"float32": 0.999, "float16": 0.999, "bfloat16": 0.995}
"""Weights merged in 16 or 32 bits, compared in fp32 arithmetic."""
_KL = 0.002
_QUANTISED: dict[ExportFormat, tuple[float, float]] = {
    "gguf-q8_0": (0.9, 0.05),
    "gguf-q6_k": (0.85, 0.2),
    "gguf-q5_k_m": (0.6, 0.7),
    "gguf-q4_k_m": (0.4, 1.5),
    "gguf-q4_0": (0.3, 2.0),
}


@dataclass(frozen=True)
class Effort:
    """How much is compared."""

    places: int
    llama_cpp_places: int


FULL = Effort(places=2000, llama_cpp_places=LLAMA_CPP_PLACES)
REHEARSAL = FULL
"""As many places as of the real one: the bounds allow nothing for chance, and 500 of the 1,470 tokens of the
sample's held-out rows agreed at 99.20 % where all of them agree at 99.52 % (docs/benchmarks/exports.md). In llama.cpp too: of 150
places one that differs is below 99.5 %, and a training would be refused for an export that then passes."""


class Certifier:
    """Compares one exported folder with the trained model."""

    def __init__(
        self, job_dir: JobDir, job: TrainingJob, adapter: Path, on_phase: Callable[[ExportPhase], None], effort: Effort = FULL
    ) -> None:
        self._job_dir, self._job, self._adapter, self._on_phase, self._effort = job_dir, job, adapter, on_phase, effort
        self._base = Path(job.model.path)
        self._notices: list[Notice] = []

    def certify(self, export_format: ExportFormat, folder: Path, *, rehearsal: bool) -> Certificate:
        """Return the certificate of what lies in `folder`. Raises OutOfHostMemory, DatasetInvalid, and what loading raises."""
        started = time.monotonic()
        self._notices = []
        self._on_phase("reference")
        compared = choose(self._job_dir, self._job, Renderer.load(self._base), self._effort.places)
        arithmetic = loading_back.choose_arithmetic(self._base)
        model = loading_back.load_reference(self._base, self._adapter, arithmetic)
        reference = score(model, compared.rows)
        del model
        agreements: list[Agreement] = []
        prompts = None
        if self._can_load(export_format):
            self._on_phase("loading_back")
            agreements += self._with_transformers(export_format, folder, compared, reference, arithmetic)
        if export_format.startswith("gguf"):
            self._on_phase("llama_cpp")
            found = self._with_llama_cpp(export_format, folder, compared, reference)
            if found is not None:
                agreements.append(found[0])
                prompts = found[1]
        self._on_phase("finishing")
        self._judge(agreements, prompts)
        files = {str(file.relative_to(folder)): _sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}
        return Certificate(
            format=export_format,
            passed=bool(agreements) and not any(notice.code == "export_failed" for notice in self._notices),
            rehearsal=rehearsal,
            job_id=self._job.job_id,
            model_id=self._job.model.model_id,
            model_commit=self._job.model.commit,
            dataset_hash=self._job.dataset.content_hash,
            adapter_sha256=_sha256(self._adapter / WEIGHTS_NAME),
            created_at=utc_now(),
            rows=len(compared.rows),
            rows_in_all=compared.rows_in_all,
            row_source=compared.source,
            reference=f"transformers {_version('transformers')}, weights and adapter not merged, {_name(arithmetic)} arithmetic, "
            "at every token of the rows",
            reference_loss=reference.loss,
            agreements=agreements,
            prompts=prompts,
            notices=self._notices,
            size_bytes=sum((folder / name).stat().st_size for name in files),
            files=files,
            seconds=time.monotonic() - started,
            versions={name: _version(name) for name in ("affinage", "torch", "transformers", "gguf", "peft", "xllamacpp")},
        )

    def _can_load(self, export_format: ExportFormat) -> bool:
        if export_format == "adapter" and importlib.util.find_spec("peft") is None:
            self._notices.append(Notice(key="export_note.no_peft"))
            return False
        if export_format.startswith("gguf") and not loading_back.reads_gguf(self._base):
            self._notices.append(Notice(key="export_note.transformers_gguf"))
            return False
        return True

    def _with_transformers(
        self, export_format: ExportFormat, folder: Path, compared: Compared, reference: Scores, arithmetic: torch.dtype
    ) -> list[Agreement]:
        """Return the agreement in the reference's arithmetic and, of a model merged in 16 bits, in bf16 as it will be used."""
        model = loading_back.load_export(export_format, folder, self._base, arithmetic)
        stored = loading_back.merged_dtype(folder) if export_format == "merged" else "float32"
        exact = _TOP1["bfloat16"] if export_format == "gguf-f16" else _TOP1[stored]
        bounds = _QUANTISED.get(export_format, (exact, _KL))
        found = [self._agreement(model, compared, reference, arithmetic=_name(arithmetic), bounds=bounds)]
        if export_format == "merged" and stored != "float32" and arithmetic is torch.float32:
            model.to(torch.bfloat16)
            found.append(self._agreement(model, compared, reference, arithmetic="bfloat16", bounds=(0.0, _KL), timed=False))
        return found

    @staticmethod
    def _agreement(
        model: nn.Module,
        compared: Compared,
        reference: Scores,
        *,
        arithmetic: str,
        bounds: tuple[float, float],
        timed: bool = True,
    ) -> Agreement:
        scores = score(model, compared.rows, reference)
        row = compared.rows[0]
        return Agreement(
            engine="transformers",
            version=_version("transformers"),
            arithmetic=arithmetic,
            positions=compared.places,
            top1=top1_agreement(reference, scores),
            kl=divergence(reference, scores.kept),
            loss=scores.loss,
            tokens_per_second=loading_back.answer_speed(model, row.ids[: row.places[0]]) if timed else None,
            least_top1=bounds[0],
            most_kl=bounds[1],
        )

    def _with_llama_cpp(
        self, export_format: ExportFormat, folder: Path, compared: Compared, reference: Scores
    ) -> tuple[Agreement, PromptCheck] | None:
        version = llama_cpp.find_version()
        if version is None:
            self._notices.append(Notice(key="export_note.no_llama_cpp"))
            return None
        (file,) = folder.glob("*.gguf")
        rows = thinned(compared.rows, self._effort.llama_cpp_places)
        files = load_tokenizer_files(self._base)
        plain_id = files.tokenizer.encode("a", add_special_tokens=False).ids[0]
        try:
            answered = llama_cpp.ask(file, rows, compared.prompts, plain_id, count_free_cores(len(list_usable_cores())))
        except llama_cpp.LlamaCppFailed as error:
            self._notices.append(Notice(key="export_failed.llama_cpp", params={"reason": str(error)}))
            return None
        told = first(reference, len(answered.places))
        kept = np.full(told.kept.shape, -np.inf, np.float32)
        for place, likeliest in enumerate(answered.places):
            logs = dict(likeliest)
            kept[place] = [logs.get(token, -np.inf) for token in told.kept_ids[place].tolist()]
        best = np.array([likeliest[0][0] for likeliest in answered.places])
        least, most = _QUANTISED.get(export_format, (_TOP1["bfloat16"], _KL))
        agreement = Agreement(
            engine="llama.cpp",
            version=f"xllamacpp {version}",
            arithmetic=export_format.removeprefix("gguf-"),
            positions=len(answered.places),
            top1=float((best == told.best).mean()),
            kl=divergence(told, kept),
            loss=None,
            tokens_per_second=answered.tokens_per_second,
            least_top1=least,
            most_kl=most,
        )
        equal = sum(ids == prompt.ids for ids, prompt in zip(answered.prompts, compared.prompts, strict=True))
        return agreement, PromptCheck(compared=len(compared.prompts), equal=equal)

    def _judge(self, agreements: list[Agreement], prompts: PromptCheck | None) -> None:
        """Note what failed."""
        for found in agreements:
            if not found.passed:
                params = {
                    "engine": found.engine,
                    "top1": f"{100 * found.top1:.2f}",
                    "least": f"{100 * found.least_top1:.1f}",
                    "kl": f"{found.kl:.4f}",
                    "most": f"{found.most_kl:g}",
                }
                self._notices.append(Notice(key="export_failed.parity", params=params))
        if prompts is not None and prompts.equal < LEAST_EQUAL_PROMPTS * prompts.compared:
            self._notices.append(
                Notice(key="export_failed.prompts", params={"equal": prompts.equal, "compared": prompts.compared})
            )
        if not agreements and not any(notice.code == "export_failed" for notice in self._notices):
            self._notices.append(Notice(key="export_failed.unchecked"))


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
