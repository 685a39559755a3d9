"""`python -m app.planner.trace`: the trace worker. One request a line on stdin, one answer a line on stdout.

Ends when stdin does. Whoever starts it limits its memory and the time of an answer.
"""

import logging
import os
import sys
import warnings
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from app.contracts.trace import LinearsCall, ProfileCall, ReplayCall, TraceAnswer
from app.core.errors import AffinageError

log = logging.getLogger("app.planner.trace")

_CALLS: TypeAdapter[ProfileCall | ReplayCall | LinearsCall] = TypeAdapter(
    Annotated[ProfileCall | ReplayCall | LinearsCall, Field(discriminator="call")]
)


def answer(line: str) -> TraceAnswer:
    """Return the answer to one request."""
    try:
        call = _CALLS.validate_json(line)
    except ValidationError as error:
        return TraceAnswer(error_key="not_traced.failed", error_params={"reason": _shorten(str(error))})
    # Imported here: torch takes seconds, and a request that cannot be read needs none of it.
    from app.planner.trace.linears import list_targets
    from app.planner.trace.profiling import trace_profile
    from app.planner.trace.replaying import replay_step

    try:
        if isinstance(call, ProfileCall):
            return TraceAnswer(profile=trace_profile(call.request))
        if isinstance(call, LinearsCall):
            return TraceAnswer(linears=list_targets(call.config))
        return TraceAnswer(replay=replay_step(call))
    except AffinageError as error:
        return TraceAnswer(error_key=error.key, error_params={name: str(value) for name, value in error.params.items()})
    except Exception as error:
        # Any model that transformers knows may come, and any of them may do what no shape can answer.
        log.exception("not traced")
        return TraceAnswer(error_key="not_traced.failed", error_params={"reason": _shorten(f"{type(error).__name__}: {error}")})


def _shorten(text: str) -> str:
    lines = text.strip().splitlines()
    return (lines[0] if lines else "")[:200]


def main() -> int:
    """Answer until stdin ends; return 0."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore")
    # Warm from the start: the first request should not wait for torch longer than it must.
    from app.planner.trace import profiling  # noqa: F401

    for line in sys.stdin:
        if line.strip():
            sys.stdout.write(answer(line).model_dump_json() + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
