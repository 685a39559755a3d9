"""Rows as tokens, as the API answers them."""

from app.api.schemas.datasets import LengthBinRead, TokenCheckRead, TokenRead, TokenReportRead, TokensRead
from app.core.messages import Language, localise
from app.datasets.token_checks import TokenCheck
from app.datasets.tokens import ShownRow
from app.services.token_service import TokenReport


def tokens_read(row: int, shown: ShownRow) -> TokensRead:
    """Return one row as the model reads it."""
    return TokensRead(
        row=row,
        template=shown.template_name,
        tokens=[TokenRead(**token.model_dump()) for token in shown.tokens],
        full_length=shown.full_length,
        fallback=shown.fallback,
    )


def token_report_read(report: TokenReport, language: Language) -> TokenReportRead:
    """Return what all rows are under one model, with the checks in words."""
    lengths, long_rows = report.lengths, report.long_rows
    tokens = sum(lengths)
    reason = localise(long_rows.reason, language, **long_rows.params)[0] if long_rows.reason else None
    return TokenReportRead(
        model=report.model_id,
        rows=report.rows,
        rows_counted=report.counted,
        median_length=lengths[len(lengths) // 2] if lengths else 0,
        longest=lengths[-1] if lengths else 0,
        tokens=tokens,
        trained_share=report.trained_tokens / tokens if tokens else 0.0,
        max_length=report.max_length,
        long_rows=long_rows.value,
        long_rows_reason=reason,
        histogram=[LengthBinRead(**found.model_dump()) for found in report.histogram],
        cut_rows_share=report.cut_rows_share,
        cut_tokens_share=report.cut_tokens_share,
        checks=[_check_read(check, language) for check in report.checks],
        startable=all(check.status != "failed" for check in report.checks),
    )


def _check_read(check: TokenCheck, language: Language) -> TokenCheckRead:
    message, hint = localise(check.key, language, **check.params)
    return TokenCheckRead(check=check.check, status=check.status, share=check.share, message=message, hint=hint, rows=check.rows)
