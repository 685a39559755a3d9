"""Try the original model on one's rows before training it."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.deps import LanguageDep, StudioDep
from app.api.responses import problems
from app.api.schemas.errors import ErrorContent
from app.api.schemas.trials import TrialRequest, TrialStepRead
from app.api.wording import notice_read
from app.core.messages import Language
from app.services import trial_service
from app.services.trial_service import Trial

router = APIRouter(prefix="/api/datasets", tags=["datasets"])


def prepare(dataset_id: str, body: TrialRequest, studio: StudioDep) -> Trial:
    """Refuse with a status before the stream begins."""
    return trial_service.prepare_trial(studio, dataset_id, body.model_name, body.rows)


@router.post("/{dataset_id}/trial", response_class=EventSourceResponse, responses=problems(404, 409))
def try_model(
    studio: StudioDep, language: LanguageDep, trial: Annotated[Trial, Depends(prepare, scope="function")]
) -> Iterable[TrialStepRead]:
    """Let the original model answer some rows, plainly and with a prompt and examples: is a training needed at all?"""
    for step in trial_service.try_out(studio, trial):
        shown = TrialStepRead(**step.model_dump(), error=_error(step.error_key, step.error_params, language))
        yield ServerSentEvent(raw_data=shown.model_dump_json())  # type: ignore[misc]


def _error(key: str | None, params: dict[str, str], language: Language) -> ErrorContent | None:
    if key is None:
        return None
    notice = notice_read(key, params, language)
    return ErrorContent(code=notice.code, message=notice.message, hint=notice.hint)
