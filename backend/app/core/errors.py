"""Expected failures, one class each.

    AffinageError (internal, 500)
    |-- NotFound (404)            |-- Conflict (409)          |-- Invalid (422)
    |-- Unsupported (415)         |-- TooLarge (413)          |-- Forbidden (403)
    |-- Unauthorized (401)
    |-- DatasetInvalid (422)      |-- DatasetChanged (409)
    |-- ModelUnavailable (409)    |-- HubUnreachable (503)    |-- UpstreamUnreachable (502)
    |-- OutOfDeviceMemory / OutOfHostMemory (507)             |-- DiskFull (507)
    |-- Diverged, Stalled, WorkerKilled, CheckpointCorrupt, ExportFailed, Cancelled (500, 409)

The HTTP body is `{"error": {"code", "message", "hint"}}` (+ `details` where single fields or rows are at fault).
The engines report the same codes in their `job_failed` events.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from app.core.messages import Language, localise


class AffinageError(Exception):
    """A failure with a stable code and a sentence in two languages.

    `variant` selects the message key `<code>.<variant>`; `params` fill its template.
    `details` lists places at fault: dictionaries with any of `field`, `row`, `column`, `code`, `message`.
    """

    status_code: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, variant: str = "", /, details: list[dict[str, Any]] | None = None, **params: object) -> None:
        self.key = f"{self.code}.{variant}" if variant else self.code
        self.params = params
        self.details = details or []
        super().__init__(self.message)

    def text(self, language: Language) -> tuple[str, str]:
        """Return (message, hint) in `language`."""
        return localise(self.key, language, **self.params)

    @property
    def message(self) -> str:
        """What happened, in English."""
        return self.text("en")[0]

    @property
    def hint(self) -> str:
        """What to do, in English."""
        return self.text("en")[1]


class NotFound(AffinageError):
    status_code, code = 404, "not_found"


class Conflict(AffinageError):
    status_code, code = 409, "conflict"


class Invalid(AffinageError):
    status_code, code = 422, "invalid"


class Unsupported(AffinageError):
    status_code, code = 415, "unsupported"


class TooLarge(AffinageError):
    status_code, code = 413, "too_large"


class Forbidden(AffinageError):
    status_code, code = 403, "forbidden"


class Unauthorized(AffinageError):
    status_code, code = 401, "unauthorized"


class DatasetInvalid(AffinageError):
    status_code, code = 422, "dataset_invalid"


class DatasetChanged(AffinageError):
    status_code, code = 409, "dataset_changed"


class ModelUnavailable(AffinageError):
    status_code, code = 409, "model_unavailable"


class HubUnreachable(AffinageError):
    status_code, code = 503, "hub_unreachable"


class UpstreamUnreachable(AffinageError):
    status_code, code = 502, "upstream_unreachable"


class OutOfDeviceMemory(AffinageError):
    status_code, code = 507, "oom_device"


class OutOfHostMemory(AffinageError):
    status_code, code = 507, "oom_host"


class DiskFull(AffinageError):
    status_code, code = 507, "disk_full"


class Diverged(AffinageError):
    status_code, code = 500, "diverged"


class Stalled(AffinageError):
    status_code, code = 500, "stalled"


class WorkerKilled(AffinageError):
    status_code, code = 500, "worker_killed"


class CheckpointCorrupt(AffinageError):
    status_code, code = 500, "checkpoint_corrupt"


class ExportFailed(AffinageError):
    status_code, code = 500, "export_failed"


class Cancelled(AffinageError):
    status_code, code = 409, "cancelled"


def find_error(key: str, params: Mapping[str, Any]) -> AffinageError:
    """Return the failure that an engine reported by its key; one of an unknown code counts as internal."""
    code, _, variant = key.partition(".")
    kind = next((kind for kind in AffinageError.__subclasses__() if kind.code == code), None)
    return AffinageError(log="logs") if kind is None else kind(variant, **params)
