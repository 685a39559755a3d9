"""Make one export: the files in a folder aside, the certificate, the card; the folder gets its name only when all is well."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil

from app.contracts.export import Certificate, ExportFormat, ExportPhase
from app.contracts.job import TrainingJob
from app.contracts.plan import Notice
from app.core.errors import ExportFailed
from app.datasets.render import Renderer
from app.datasets.tokenizer_files import load_tokenizer_files
from app.export.card import draw_curve, make_card
from app.export.certify import FULL, REHEARSAL, Certifier
from app.export.gguf_file import Precision, write_gguf
from app.export.gguf_vocabulary import written_template
from app.export.loading_back import choose_arithmetic, load_reference, merged_dtype
from app.export.merging import write_merged
from app.export.modelfile import make_modelfile
from app.export.places import choose_shown
from app.export.rounding import MOST_BYTES, Rounder, collect_moments, needed_bytes
from app.storage.export_dir import ExportDir
from app.storage.job_dir import JobDir, fsync_folder
from app.training.results import TOKENIZER_FILES

CERTIFICATE_NAME = "certificate.json"
CALIBRATION_TOKENS = 4096
"""Of training rows, whose inputs guide the rounding of a merge."""
_PRECISIONS: dict[ExportFormat, Precision] = {
    "gguf-f16": "f16",
    "gguf-q8_0": "q8_0",
    "gguf-q6_k": "q6_k",
    "gguf-q5_k_m": "q5_k_m",
    "gguf-q4_k_m": "q4_k_m",
    "gguf-q4_0": "q4_0",
}


class CertificateFailed(ExportFailed):
    """The certificate did not pass; `certificate` says where."""

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate
        cause = next(notice for notice in certificate.notices if notice.code == self.code)
        super().__init__(cause.key.partition(".")[2], **cause.params)


def make_export(
    job_dir: JobDir,
    job: TrainingJob,
    export_format: ExportFormat,
    adapter: Path,
    *,
    rehearsal: bool = False,
    licence: str = "",
    on_phase: Callable[[ExportPhase], None] = lambda _: None,
) -> Certificate:
    """Write and check one export of `adapter`. Raise CertificateFailed and leave nothing when the certificate does not pass."""
    exports = ExportDir(job_dir.path, rehearsal=rehearsal)
    aside, final = exports.aside(export_format), exports.folder(export_format)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700, parents=True)
    try:
        on_phase("writing")
        has_modelfile = _write(job, export_format, adapter, aside, licence)
        certifier = Certifier(job_dir, job, adapter, on_phase, REHEARSAL if rehearsal else FULL)
        certificate = certifier.certify(export_format, aside, rehearsal=rehearsal)
        nearest = certificate
        if _is_rounded_away(certificate, aside):
            on_phase("writing")
            certificate = _calibrate(job_dir, job, adapter, aside, certifier, failed=nearest)
        if _is_rounded_away(certificate, aside):
            on_phase("writing")
            certificate = _widen(job, adapter, aside, certifier, nearest)
        if not certificate.passed:
            raise CertificateFailed(certificate)
        _describe(job_dir, job, certificate, aside, licence=licence, has_modelfile=has_modelfile)
        for file in aside.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        shutil.rmtree(final, ignore_errors=True)
        if rehearsal:
            final.mkdir()
            shutil.copyfile(aside / CERTIFICATE_NAME, final / CERTIFICATE_NAME)
        else:
            aside.rename(final)
        fsync_folder(final.parent)
        return certificate
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(job: TrainingJob, export_format: ExportFormat, adapter: Path, folder: Path, licence: str) -> bool:
    """Write the model's files; return whether there is a Modelfile."""
    base = Path(job.model.path)
    if export_format == "adapter":
        for file in sorted(adapter.iterdir()):
            shutil.copyfile(file, folder / file.name)
        return False
    if export_format == "merged":
        write_merged(base, adapter, folder)
        for name in ("config.json", "generation_config.json", *TOKENIZER_FILES):
            if (base / name).is_file():
                shutil.copyfile(base / name, folder / name)
        (folder / "chat_template.jinja").write_text(written_template(load_tokenizer_files(base)), "utf-8")
        return False
    precision = _PRECISIONS[export_format]
    file = folder / f"{file_name(job)}-{precision}.gguf"
    write_gguf(base, adapter, file, precision, name=job.name, licence=licence)
    modelfile = make_modelfile(base, file.name, job.optimization.max_length)
    if modelfile is not None:
        (folder / "Modelfile").write_text(modelfile, "utf-8")
    return modelfile is not None


def _is_rounded_away(certificate: Certificate, folder: Path) -> bool:
    """Return whether another rounding may save a merge that failed: that to 16 bits moved too many answers."""
    return certificate.format == "merged" and not certificate.passed and merged_dtype(folder) != "float32"


def _calibrate(
    job_dir: JobDir, job: TrainingJob, adapter: Path, folder: Path, certifier: Certifier, *, failed: Certificate
) -> Certificate:
    """Round the merged weights anew, with regard to the training rows, and return their certificate, which says so.

    Returns `failed` where memory does not hold what that takes, or the inputs are too large or too much alike to be solved for.
    """
    base = Path(job.model.path)
    model = load_reference(base, adapter, choose_arithmetic(base))
    if needed_bytes(model) > min(MOST_BYTES, psutil.virtual_memory().available // 2):
        return failed
    rows = choose_shown(job_dir, job, Renderer.load(base), CALIBRATION_TOKENS)
    rounder = Rounder(collect_moments(model, rows))
    del model
    try:
        write_merged(base, adapter, folder, rounder=rounder)
    except ArithmeticError:
        return failed
    certificate = certifier.certify("merged", folder, rehearsal=failed.rehearsal)
    note = _explain("export_note.calibrated", merged_dtype(folder), failed, tokens=sum(map(len, rows)))
    return certificate.model_copy(update={"notices": [note, *certificate.notices]})


def _widen(job: TrainingJob, adapter: Path, folder: Path, certifier: Certifier, failed: Certificate) -> Certificate:
    """Write the merged weights anew in 32 bits and return their certificate, which says so."""
    stored = merged_dtype(folder)
    write_merged(Path(job.model.path), adapter, folder, widen=True)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", "utf-8")
    certificate = certifier.certify("merged", folder, rehearsal=failed.rehearsal)
    return certificate.model_copy(update={"notices": [explain_width(stored, failed), *certificate.notices]})


def explain_width(stored: str, failed: Certificate) -> Notice:
    """Return why weights rounded to `stored` were not enough: the comparison that failed."""
    return _explain("export_note.widened", stored, failed)


def _explain(key: str, stored: str, failed: Certificate, **params: int) -> Notice:
    found = next(agreement for agreement in failed.agreements if not agreement.passed)
    said = {
        "dtype": stored,
        "arithmetic": found.arithmetic,
        "top1": f"{100 * found.top1:.2f}",
        "least": f"{100 * found.least_top1:.1f}",
        "kl": f"{found.kl:.2g}",
        "most": f"{found.most_kl:.2g}",
    }
    return Notice(key=key, params={**said, **params})


def file_name(job: TrainingJob) -> str:
    """Return a name for a file: the model's and the job's, in plain letters."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{Path(job.model.model_id).name}-{job.job_id}").strip("-.").lower()


def _describe(
    job_dir: JobDir, job: TrainingJob, certificate: Certificate, folder: Path, *, licence: str, has_modelfile: bool
) -> None:
    """Write the card, the curve and the certificate."""
    events = list(job_dir.read_events())
    card = make_card(
        job,
        certificate,
        job_dir.find_report(),
        events,
        comparison=None if certificate.rehearsal else job_dir.find_comparison(),
        licence=licence,
        has_modelfile=has_modelfile,
    )
    (folder / "README.md").write_text(card, "utf-8")
    curve = draw_curve(events)
    if curve is not None:
        (folder / "curve.svg").write_text(curve, "utf-8")
    (folder / CERTIFICATE_NAME).write_text(json.dumps(json.loads(certificate.model_dump_json()), indent=2) + "\n", "utf-8")
