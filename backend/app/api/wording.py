"""Contracts and rows as the API answers them, with sentences in the reader's language."""

import json
import math
from collections.abc import Mapping as MappingABC
from typing import Any

from sqlalchemy.orm import Session

from app.api.schemas.datasets import (
    AnalysisRead,
    ChangeRead,
    CheckRead,
    DatasetRead,
    FindingRead,
    FoundRowRead,
    ProblemRead,
    RowRead,
    Splits,
)
from app.api.schemas.errors import ErrorContent
from app.api.schemas.jobs import ErrorRead, JobDetail, JobRead, Progress, StartedRead
from app.api.schemas.models import RecommendationRead, RecommendedModel, RecommendedPlan
from app.api.schemas.plans import (
    AlternativeRead,
    JobRecordRead,
    NoticeRead,
    PlanRead,
    PlanRecordRead,
    RecordSummary,
    ResolvedRead,
)
from app.api.schemas.system import CalibrationRead, DownloadRead, HardwareRead
from app.contracts.analysis import REMEDIES, Finding
from app.contracts.calibration import Calibration
from app.contracts.dataset import DatasetInfo, Problem
from app.contracts.job import TrainingJob
from app.contracts.plan import Alternative, Notice, Plan, Resolved
from app.contracts.record import JobRecord
from app.contracts.status import JobStatus
from app.core.errors import AffinageError
from app.core.messages import Language, localise
from app.core.validation import localise_details
from app.datasets.importing import RowView
from app.planner.time import find_comparison_seconds
from app.services import calibration_service, job_service, record_service, reproducing
from app.services.analyses import AnalysisState
from app.services.downloads import Download
from app.services.recommendation_service import RankedModel, Ranking
from app.services.studio import Studio
from app.storage.tables import JobRow

BATCH_FACTORS = ("batch_size", "gradient_accumulation_steps")
SMALLEST_SPLIT = 50
"""Distinct rows below which there is no held-out split."""


def notice_read(key: str, params: MappingABC[str, Any], language: Language) -> NoticeRead:
    """Return the sentence of a message key; a key of another version of Affinage stays readable as it is."""
    try:
        message, hint = localise(key, language, **params)
    except KeyError:
        message, hint = f"{key} {json.dumps(dict(params), ensure_ascii=False)}", ""
    return NoticeRead(code=key.split(".", maxsplit=1)[0], message=message, hint=hint)


def error_content(problem: AffinageError, language: Language) -> ErrorContent:
    """Return an expected failure as the house error."""
    message, hint = problem.text(language)
    details = localise_details(problem.details, language)
    if problem.key == "invalid.values":  # the sentence itself names field and range: many clients show nothing else
        message = "; ".join(f"{detail['field']}: {detail['message']}" for detail in details) + "."
    return ErrorContent(code=problem.code, message=message, hint=hint, details=details)


def problem_read(problem: Problem, language: Language) -> ProblemRead:
    """Return something wrong in one place of a file."""
    notice = notice_read(problem.key, problem.params, language)
    return ProblemRead(row=problem.row, column=problem.column, code=notice.code, message=notice.message, hint=notice.hint)


def dataset_read(info: DatasetInfo, language: Language) -> DatasetRead:
    """Return a data set."""
    notices = []
    if info.heldout_rows == 0:
        notices.append(localise("note.no_heldout", language, distinct_rows=info.distinct_rows, smallest=SMALLEST_SPLIT)[0])
    if info.skipped_rows:
        notices.append(localise("note.rows_skipped", language, skipped=info.skipped_rows, rows_in_file=info.rows_in_file)[0])
    if info.problem_count > len(info.problems):
        shown = len(info.problems)
        notices.append(localise("note.more_problems", language, shown=shown, problem_count=info.problem_count)[0])
    return DatasetRead(
        **info.model_dump(
            exclude={
                "problems",
                "remarks",
                "decoded",
                "dialect",
                "train_rows",
                "heldout_rows",
                "characters",
                "row_characters",
                "mapping",
                "changes",
            },
        ),
        mapping=info.mapping,
        shape=info.mapping.shape,
        problems=[problem_read(problem, language) for problem in info.problems],
        remarks=[problem_read(remark, language) for remark in info.remarks],
        splits=Splits(train=info.train_rows, heldout=info.heldout_rows),
        changes=[
            ChangeRead(
                code=change.code, rows=change.rows, message=localise(f"change.{change.code}", language, rows=change.rows)[0]
            )
            for change in info.changes
        ],
        notices=notices,
    )


def analysis_read(found: AnalysisState, language: Language) -> AnalysisRead:
    """Return what a second look found, or how far it is."""
    analysis = found.analysis
    rows = analysis.rows if analysis else 0
    return AnalysisRead(
        state=found.state,
        done_bytes=found.done_bytes,
        total_bytes=found.total_bytes,
        rows=rows,
        seconds=analysis.seconds if analysis else 0.0,
        languages=analysis.languages if analysis else {},
        findings=[finding_read(finding, rows, language) for finding in (analysis.findings if analysis else [])],
    )


def finding_read(finding: Finding, rows: int, language: Language) -> FindingRead:
    """Return one finding with its sentence."""
    params = {"count": finding.count, "rows": rows, **finding.params}
    message, hint = localise(f"finding.{finding.code}", language, **params)
    return FindingRead(
        code=finding.code,
        count=finding.count,
        remedy=REMEDIES[finding.code],
        message=message,
        hint=hint,
        rows=[FoundRowRead(**found.model_dump()) for found in finding.rows],
    )


def check_read(found: DatasetInfo | AffinageError, language: Language) -> CheckRead:
    """Return what a check found out, or why the file is refused."""
    if isinstance(found, AffinageError):
        return CheckRead(usable=False, status="refused", error=error_content(found, language))
    read = dataset_read(found, language).model_dump(include=set(CheckRead.model_fields))
    status = "usable" if found.confirmed else "needs_mapping"
    return CheckRead(usable=found.confirmed, status=status, duplicates=found.rows - found.distinct_rows, **read)


def row_read(view: RowView, language: Language) -> RowRead:
    """Return one row as imported and as a training example."""
    example = view.example
    return RowRead(
        row=view.row,
        values=view.values,
        messages=example.messages if example else None,
        text=example.text if example else None,
        rejected=example.rejected if example else None,
        desirable=example.desirable if example else None,
        problems=[problem_read(problem, language) for problem in view.problems],
    )


def download_read(download: Download, language: Language) -> DownloadRead:
    """Return how far a download has come."""
    problem = download.problem
    return DownloadRead(
        model_id=download.model_id,
        state=download.state,
        done_bytes=download.done_bytes,
        total_bytes=download.total_bytes,
        error=error_content(problem, language) if problem else None,
    )


def plan_read(studio: Studio, plan: Plan, language: Language) -> PlanRead:
    """Return a plan with each value's reason in words."""
    devices = {device.id: device.name for device in studio.hardware().devices}

    def resolved_read(value: Resolved) -> ResolvedRead:
        reason = notice_read(value.reason, value.params, language).message if value.reason else None
        return ResolvedRead(value=value.value, origin=value.origin, reason=reason, automatic=value.automatic)

    def notices(found: list[Notice]) -> list[NoticeRead]:
        return [notice_read(notice.key, notice.params, language) for notice in found]

    resolved = plan.resolved
    return PlanRead(
        **plan.model_dump(exclude={"parts", "resolved", "reasons", "warnings", "alternatives"}),
        device_name=devices.get(plan.device_id, plan.device_id),
        fits=plan.fits,
        parts=plan.parts,
        comparison_seconds=find_comparison_seconds(plan),
        effective_batch_size=math.prod(resolved[name].value for name in BATCH_FACTORS if name in resolved),
        resolved={name: resolved_read(value) for name, value in resolved.items()},
        reasons=notices(plan.reasons),
        warnings=notices(plan.warnings),
        alternatives=[alternative_read(alternative, language) for alternative in plan.alternatives],
    )


def alternative_read(alternative: Alternative, language: Language) -> AlternativeRead:
    """Return another plan with its price in words."""
    message = notice_read(alternative.reason.key, alternative.reason.params, language).message
    return AlternativeRead(**alternative.model_dump(exclude={"reason"}), message=message)


def recommendation_read(ranking: Ranking, language: Language) -> RecommendationRead:
    """Return the ranking with its reasons in words."""
    return RecommendationRead(
        objective=ranking.objective,
        device_name=ranking.device.name,
        memory_bytes=ranking.memory_bytes,
        dataset_id=ranking.dataset_id,
        train_rows=ranking.train_rows,
        models=[_ranked_read(model, language) for model in ranking.models],
    )


def _ranked_read(ranked: RankedModel, language: Language) -> RecommendedModel:
    plan, place, entry, shape = ranked.plan, ranked.place, ranked.model.entry, ranked.model.shape
    quality = place.contender.quality
    return RecommendedModel(
        id=ranked.model.model_id,
        name=entry.display_name,
        rank=place.rank,
        recommended=place.recommended,
        dominated=place.dominated_by is not None,
        dominated_by=place.dominated_by,
        quality=quality.score,
        quality_source=notice_read(quality.source.key, quality.source.params, language).message,
        quality_rating=entry.quality_rating,
        speed_rating=entry.speed_rating,
        params=shape.params if shape else None,
        weights=ranked.weights,
        vram_required_gb=entry.vram_required_gb,
        seconds_p50=plan.seconds_p50,
        seconds_p90=plan.seconds_p90,
        peak_bytes=plan.peak_bytes,
        peak_bytes_upper=plan.peak_bytes_upper,
        verdict=plan.verdict,
        plan=RecommendedPlan(**{name: plan.resolved[name].value for name in RecommendedPlan.model_fields}),
        reason=notice_read(place.reason.key, place.reason.params, language).message,
    )


def plan_record_read(records: list[JobRecord]) -> PlanRecordRead:
    """Return the planner's record, newest job first."""
    return PlanRecordRead(
        jobs=[JobRecordRead.model_validate(record, from_attributes=True) for record in reversed(records)],
        summary=RecordSummary.model_validate(record_service.summarise(records), from_attributes=True),
    )


def hardware_read(studio: Studio, language: Language) -> HardwareRead:
    """Return the machine with what its best device was measured to do."""
    hardware = studio.hardware()
    reason = hardware.unused_reason and notice_read(hardware.unused_reason, {}, language).message
    calibration = calibration_service.find_calibration(studio)
    return HardwareRead.model_validate(
        hardware.model_dump() | {"unused_reason": reason, "calibration": calibration and calibration_read(calibration, language)}
    )


def calibration_read(calibration: Calibration, language: Language) -> CalibrationRead:
    """Return how fast a device is, and how far that can be trusted."""
    notice = calibration_service.find_notice(calibration)
    shown = notice and notice_read(notice.key, notice.params, language)
    return CalibrationRead.model_validate(calibration.model_dump(exclude={"steps", "products"}) | {"notice": shown})


def started_read(studio: Studio, row: JobRow, language: Language) -> StartedRead:
    """Return the answer to a start."""
    plan = plan_read(studio, TrainingJob.model_validate_json(row.spec).plan, language)
    return StartedRead(job_id=row.job_id, status=JobStatus(row.status), plan=plan, warnings=plan.warnings)


def job_read(studio: Studio, row: JobRow, language: Language) -> JobRead:
    """Return a job for lists."""
    return JobRead.model_validate(_job_fields(studio, row, language))


def job_detail(studio: Studio, session: Session, row: JobRow, language: Language) -> JobDetail:
    """Return a job with its plan, its notices and the commands that start it again."""
    job = TrainingJob.model_validate_json(row.spec)
    adapter = studio.job_dir(row.job_id).adapter
    noted = job_service.notices(session, row.job_id)
    worked_seconds, working_since = job_service.worked_time(session, row)
    return JobDetail.model_validate(
        {
            **_job_fields(studio, row, language),
            "plan": plan_read(studio, job.plan, language),
            "commands": reproducing.make_commands(job, studio.settings),
            "request": reproducing.make_request(job),
            "notices": [notice_read(note.key, note.params, language) for note in noted],
            "adapter_path": str(adapter) if row.status == JobStatus.SUCCEEDED and adapter.is_dir() else None,
            "worked_seconds": worked_seconds,
            "working_since": working_since,
        }
    )


def _job_fields(studio: Studio, row: JobRow, language: Language) -> dict[str, object]:
    progress = {name: getattr(row, name) for name in Progress.model_fields if name != "fraction"}
    fraction = 1.0 if row.status == JobStatus.SUCCEEDED else row.step / row.total_steps if row.total_steps else 0.0
    names = set(JobRead.model_fields) - {"progress", "error", "can_chat"}
    return {
        **{name: getattr(row, name) for name in names},
        "progress": Progress(**progress, fraction=min(1.0, fraction)),
        "error": error_read(row, language),
        "can_chat": job_service.can_chat(studio, row),
    }


def error_read(row: JobRow, language: Language) -> ErrorRead | None:
    """Return why a job failed, or None."""
    if row.error_code is None or row.error_key is None:
        return None
    notice = notice_read(row.error_key, json.loads(row.error_params or "{}"), language)
    return ErrorRead(code=row.error_code, message=notice.message, hint=notice.hint, evidence=row.error_evidence or "")


def decimal(value: float, language: Language) -> str:
    """Return a number with two decimals as the language writes it."""
    text = f"{value:.2f}"
    return text.replace(".", ",") if language == "fr" else text
