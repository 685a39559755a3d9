"""The model card: what was trained on what, how it went, and how the exported files compare. Markdown, as model hubs read it."""

import json
from collections.abc import Sequence

from app.contracts.comparison import Comparison, MeasureName
from app.contracts.events import EvalLogged, JobEvent, StepLogged
from app.contracts.export import Certificate, ExportFormat
from app.contracts.job import TrainingJob
from app.contracts.report import Report

_WIDTH, _HEIGHT = 640, 240
_MEASURES: dict[MeasureName, str] = {
    "loss": "loss, nats per token",
    "accuracy": "right class",
    "exact": "exactly the expected answer",
    "json_valid": "valid JSON",
    "json_equal": "the expected JSON",
    "overlap": "shared words (F1)",
    "known": "general questions answered",
}
_GENERAL: dict[MeasureName, str] = {**_MEASURES, "loss": "loss on general questions, nats per token"}
_LIBRARY: dict[ExportFormat, str] = {"adapter": "peft", "merged": "transformers"}
_USE = {
    "adapter": (
        "from peft import AutoPeftModelForCausalLM\n\n"
        'model = AutoPeftModelForCausalLM.from_pretrained("{folder}")  # fetches the base model'
    ),
    "merged": 'from transformers import AutoModelForCausalLM\n\nmodel = AutoModelForCausalLM.from_pretrained("{folder}")',
}


def make_card(
    job: TrainingJob,
    certificate: Certificate,
    report: Report | None,
    events: Sequence[JobEvent],
    *,
    comparison: Comparison | None = None,
    licence: str,
    has_modelfile: bool,
) -> str:
    """Return the text of README.md. Figures come from the job, its report and the certificate alone."""
    parts = [
        _front_matter(job, certificate.format, licence),
        f"# {_plain(job.name)}",
        f"{_plain(job.model.model_id)} fine-tuned with LoRA by [Affinage](#how-it-was-made). Format: `{certificate.format}`.",
        "## How to use it",
        _usage(certificate.format, has_modelfile),
        "## What training changed",
        _results(report, events),
        _compared(comparison),
        "## How it was made",
        _table(("setting", "value"), _settings(job, certificate)),
        "## Does this file answer like the trained model?",
        _parity(certificate),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def draw_curve(events: Sequence[JobEvent]) -> str | None:
    """Return the loss over the steps as SVG: the training's as a line, the held-out rows' as points. None without steps."""
    steps = [(event.step, event.loss) for event in events if isinstance(event, StepLogged)]
    heldout = [(event.step, event.loss) for event in events if isinstance(event, EvalLogged)]
    if len(steps) < 2:
        return None
    values = [loss for _, loss in [*steps, *heldout]]
    low, high, last = min(values), max(values), max(step for step, _ in [*steps, *heldout])

    def place(step: int, loss: float) -> tuple[float, float]:
        return 40 + step / last * (_WIDTH - 60), 20 + (high - loss) / ((high - low) or 1) * (_HEIGHT - 50)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in steps))
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#d9480f"/>' for x, y in (place(*point) for point in heldout))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>'
        f'<polyline points="{line}" fill="none" stroke="#1c7ed6" stroke-width="1.5"/>{dots}'
        f'<text x="4" y="24">{high:.2f}</text><text x="4" y="{_HEIGHT - 28}">{low:.2f}</text>'
        f'<text x="40" y="{_HEIGHT - 8}">steps 0 to {last}; line: training loss, points: held-out loss, nats</text></svg>\n'
    )


def _front_matter(job: TrainingJob, export_format: ExportFormat, licence: str) -> str:
    lines = ["---"]
    if job.model.kind != "folder":
        lines.append(f"base_model: {json.dumps(job.model.model_id)}")
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    lines += [
        f"library_name: {_LIBRARY.get(export_format, 'gguf')}",
        "pipeline_tag: text-generation",
        "tags: [affinage, lora, fine-tuned]",
        "---",
    ]
    return "\n".join(lines)


def _usage(export_format: ExportFormat, has_modelfile: bool) -> str:
    if export_format in _USE:
        return "```python\n" + _USE[export_format].replace("{folder}", ".") + "\n```"
    lines = ["llama.cpp: `llama-server -m *.gguf --jinja` uses the template inside the file."]
    if has_modelfile:
        lines.append("Ollama: `ollama create mine -f Modelfile`, then `ollama run mine`.")
    else:
        lines.append("The chat template cannot be written in Ollama's language, so there is no Modelfile.")
    return "\n\n".join(lines)


def _results(report: Report | None, events: Sequence[JobEvent]) -> str:
    if report is None:
        return "No report: this is a try before the training, with an untrained adapter."
    rows = [
        ("optimizer steps", f"{report.steps}"),
        ("training loss, first and last", f"{report.train_loss_first:.3f}, {report.train_loss_last:.3f}"),
        ("trained rows (truncated, left out)", f"{report.trained_rows} ({report.truncated_rows}, {report.dropped_rows})"),
    ]
    if report.loss_before is not None and report.loss_after is not None:
        rows.insert(0, (f"loss on {report.heldout_rows} held-out rows, before", f"{report.loss_before:.3f}"))
        rows.insert(1, ("the same, after", f"{report.loss_after:.3f}"))
    curve = "![Loss over the steps](curve.svg)" if draw_curve(events) else ""
    return _table(("figure", "value"), rows) + ("\n\n" + curve if curve else "")


def _compared(comparison: Comparison | None) -> str:
    """Return the figures of base and tuned, and what they allow to say."""
    if comparison is None:
        return ""
    rows = [
        (
            name,
            f"{found.rows}",
            f"{found.base:.3f}",
            "" if found.prompted is None else f"{found.prompted:.3f}",
            f"{found.tuned:.3f}",
            f"{found.low:+.3f} to {found.high:+.3f}",
        )
        for name, found in [
            *((_MEASURES[found.name], found) for found in comparison.measures),
            *((_GENERAL[found.name], found) for found in comparison.knowledge),
        ]
    ]
    verdict = {"better": "better than", "worse": "worse than", "no_effect": "not measurably different from"}[comparison.verdict]
    heading = ("held-out rows", "rows", "original", "original with a prompt", "tuned", "95 % interval of the difference")
    return _table(heading, rows) + f"\n\nBy its loss the tuned model is {verdict} the original."


def _settings(job: TrainingJob, certificate: Certificate) -> list[tuple[str, str]]:
    shape, steps = job.lora, job.optimization
    return [
        ("base model", f"{_plain(job.model.model_id)} at `{job.model.commit}`"),
        ("data", f"{_plain(job.dataset.name)}, {job.dataset.train_rows} + {job.dataset.heldout_rows} rows"),
        ("data hash (SHA-256)", f"`{job.dataset.content_hash}`"),
        ("adapter hash (SHA-256)", f"`{certificate.adapter_sha256}`"),
        ("method", job.method),
        ("rank, alpha, dropout", f"{shape.rank}, {shape.alpha}, {shape.dropout}"),
        ("rsLoRA, DoRA", f"{shape.use_rslora}, {shape.use_dora}"),
        ("target modules", ", ".join(shape.target_modules)),
        ("epochs", str(steps.num_epochs)),
        ("learning rate", f"{steps.learning_rate:g} ({steps.lr_scheduler}, warm-up {steps.warmup_ratio:g})"),
        ("rows per step", str(steps.effective_batch_size)),
        ("longest row", f"{steps.max_length} tokens"),
        ("precision while training", f"{job.dtype}, quantization {job.quantization}"),
        ("seed", str(steps.seed)),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(job.versions.items()))),
    ]


def _parity(certificate: Certificate) -> str:
    rows = [
        (
            f"{found.engine} ({found.version}), {found.arithmetic}",
            f"{100 * found.top1:.2f} %",
            f"{found.kl:.2g}",
            str(found.positions),
            "-" if found.tokens_per_second is None else f"{found.tokens_per_second:.0f}",
        )
        for found in certificate.agreements
    ]
    text = (
        f"The files were loaded back and compared with {certificate.reference}, on {certificate.rows} of the "
        f"{certificate.rows_in_all} {'held-out' if certificate.row_source == 'heldout' else 'training'} rows. Bounds and all "
        "figures: `certificate.json`."
    )
    heads = ("engine", "same likeliest token", "KL (nats)", "places", "tokens/s")
    return text + "\n\n" + _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Return people's text without what Markdown or HTML would act on."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|!" else letter for letter in " ".join(text.split()))
