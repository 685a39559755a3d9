"""The figures that are shown before one chooses a format are those of the certificates that lie in docs/."""

from pathlib import Path

import pytest

from app.contracts.export import EXPORT_FORMATS, MEASURED, MEASURED_ON, Certificate, ExportFormat

CERTIFICATES = Path(__file__).parents[3] / "docs" / "benchmarks" / "exports"


@pytest.mark.parametrize("export_format", EXPORT_FORMATS)
def test_a_certificate_of_the_embedded_model_passed_and_says_what_is_shown(export_format: ExportFormat) -> None:
    found = Certificate.model_validate_json((CERTIFICATES / f"{export_format}.json").read_text("utf-8"))
    assert found.format == export_format and found.passed and not found.rehearsal and MEASURED_ON in found.model_id
    engines = {agreement.engine for agreement in found.agreements}
    assert engines == ({"transformers", "llama.cpp"} if export_format.startswith("gguf") else {"transformers"})
    shown = MEASURED.get(export_format)
    if shown is None:
        return
    measured = next(agreement for agreement in found.agreements if agreement.engine == "transformers")
    assert (shown.top1, shown.kl) == (round(measured.top1, 4), float(f"{measured.kl:.2g}"))


@pytest.mark.parametrize(
    ("name", "least_top1"), [("bf16-1-epoch", 0.995), ("bf16-5-epochs", 0.995), ("fp16-1-epoch", 0.999), ("fp16-5-epochs", 0.999)]
)
def test_merges_of_other_trainings_and_precisions_passed(name: str, least_top1: float) -> None:
    found = Certificate.model_validate_json((CERTIFICATES / f"merged-{name}.json").read_text("utf-8"))
    assert found.passed and found.format == "merged" and not found.rehearsal
    in_32_bits, in_bfloat16 = found.agreements
    assert in_32_bits.top1 >= least_top1
    assert in_32_bits.kl <= 0.002 and in_bfloat16.kl <= 0.002
