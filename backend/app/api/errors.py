"""One handler for every failure: expected ones, values out of range, the router's own, and defects."""

import errno
import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from app.api import page
from app.api.schemas.errors import ErrorBody, OpenAIErrorBody, OpenAIErrorContent
from app.api.wording import error_content
from app.core.errors import AffinageError, DiskFull, Forbidden, NotFound, TooLarge, Unsupported
from app.core.messages import Language, localise, pick_language
from app.core.validation import refuse_values

log = logging.getLogger(__name__)


class NotAllowedHere(AffinageError):
    """The address exists, but not with this method."""

    status_code, code = 405, "method_not_allowed"


class BodyUnreadable(AffinageError):
    """The body is no valid JSON, form or text."""

    status_code, code = 400, "invalid"


class Busy(AffinageError):
    """Other writers held the database longer than a request waits, or its server does not answer (`busy.away`)."""

    status_code, code = 503, "busy"


RETRY_SECONDS = "5"


LOST_STATES = ("08", "53", "57P")
"""Of SQLSTATE, in PostgreSQL (its manual, appendix A): connection exception, insufficient resources, operator intervention."""


def find_known(problem: OSError | OperationalError) -> AffinageError | None:
    """Return what the system or the database means, where it is nothing that we did wrong."""
    if isinstance(problem, OperationalError) and is_away(problem):
        return Busy("away")
    words = str(problem).lower()
    if "disk is full" in words or (isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)):
        return DiskFull("writing")
    return Busy() if "database is locked" in words else None


def is_away(problem: OperationalError) -> bool:
    """Return whether a database server does not answer, or has ended the connection. SQLite's errors carry no SQLSTATE."""
    if not hasattr(problem.orig, "sqlstate"):
        return False
    state: str | None = getattr(problem.orig, "sqlstate", None)
    return problem.connection_invalidated or state is None or state.startswith(LOST_STATES)


OPENAI_PATH = "/v1/"
"""Addresses below answer failures as OpenAI's clients read them."""
OPENAI_CODES = {
    "not_found.model": "model_not_found",
    "invalid.prompt_too_long": "context_length_exceeded",
    "unauthorized": "invalid_api_key",
}
AS_BAD_REQUEST = frozenset({409, 415, 422})
"""Statuses that become 400 there: the interface knows no other, and clients send a 409 again as if that could help."""


def openai_error(problem: AffinageError, language: Language) -> OpenAIErrorBody:
    """Return a failure as OpenAI's clients read it: one sentence, which names the first row at fault where there are any."""
    content = error_content(problem, language)
    row = next((detail for detail in content.details if detail.get("row")), None)
    advice = content.hint
    if row is not None:
        place = {"row": row["row"], "column": row.get("column") or "-", "message": row.get("message", "")}
        advice = localise("tuning.first_row", language, **place)[0]
    return OpenAIErrorBody(
        error=OpenAIErrorContent(
            message=f"{content.message} {advice}".strip(),
            type="server_error" if problem.status_code >= 500 else "invalid_request_error",
            param=next((str(detail["field"]) for detail in problem.details if detail.get("field")), None),
            code=OPENAI_CODES.get(problem.key, problem.code),
        )
    )


def error_response(
    problem: AffinageError, language: Language, headers: dict[str, str] | None = None, *, path: str = ""
) -> JSONResponse:
    """Return the body for a failure: the house's, or OpenAI's for a `path` of its interface."""
    body: ErrorBody | OpenAIErrorBody = ErrorBody(error=error_content(problem, language))
    status = problem.status_code
    if path.startswith(OPENAI_PATH):
        body = openai_error(problem, language)
        status = 400 if status in AS_BAD_REQUEST else status
    return JSONResponse(
        body.model_dump(mode="json"),
        status_code=status,
        headers={"Content-Language": language, "Vary": "Accept-Language", **(headers or {})},
    )


def request_language(request: Request) -> Language:
    """Return the language that the reader asked for."""
    return pick_language(request.headers.get("accept-language"))


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure leave the server with a body that its reader knows."""

    def respond(request: Request, problem: AffinageError, headers: dict[str, str] | None = None) -> JSONResponse:
        return error_response(problem, request_language(request), headers, path=request.url.path)

    @app.exception_handler(AffinageError)
    async def expected(request: Request, problem: AffinageError) -> JSONResponse:
        return respond(request, problem)

    @app.exception_handler(RequestValidationError)
    async def out_of_range(request: Request, problem: RequestValidationError) -> JSONResponse:
        errors = problem.errors()
        if any(error["type"] == "json_invalid" for error in errors):
            return respond(request, BodyUnreadable("json"))
        return respond(request, refuse_values(errors))

    @app.exception_handler(HTTPException)
    async def from_the_router(request: Request, problem: HTTPException) -> JSONResponse:
        headers = dict(problem.headers or {})
        match problem.status_code:
            case 404 | 405 if problem.status_code == 404 or request.scope.get("endpoint") is page.show_page:
                # the page's catch-all knows every address for GET: for other methods it means that there is none
                return respond(request, NotFound("route", path=request.url.path), headers)
            case 405:
                return respond(request, NotAllowedHere(path=request.url.path, method=request.method), headers)
            case 413:
                return respond(request, TooLarge("request"), headers)
            case 415:
                return respond(request, Unsupported("body"), headers)
            case 403:
                return respond(request, Forbidden(), headers)
            case _:
                return respond(request, BodyUnreadable("body"), headers)

    @app.exception_handler(OSError)
    @app.exception_handler(OperationalError)
    async def from_the_system(request: Request, problem: OSError | OperationalError) -> JSONResponse:
        known = find_known(problem)
        if known is None:
            raise problem
        headers = {"Retry-After": RETRY_SECONDS} if known.status_code == 503 else None
        return respond(request, known, headers)

    @app.exception_handler(Exception)
    async def defect(request: Request, problem: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=problem)
        return respond(request, AffinageError(log="logs/server.log"))
