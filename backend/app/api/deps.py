"""What routes ask for: the studio, a session, the reader's language. What only looks is `async`: no thread is asked for it."""

import json
import re
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Header, Request
from sqlalchemy.orm import Session

from app.api.errors import BodyUnreadable
from app.api.security import UPLOAD_PATHS
from app.core.messages import Language, pick_language
from app.services.studio import Studio

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def refuse_half_characters(request: Request) -> None:
    """Raise BodyUnreadable for JSON with half of a character (a lone surrogate, `\\ud83d`): nothing here could write it on."""
    if not request.headers.get("content-type", "").startswith("application/json") or request.url.path in UPLOAD_PATHS:
        return
    body = await request.body()
    if not _SURROGATE.search(body):
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BodyUnreadable("half_character") from None
    except ValueError:
        return  # no JSON: the route says so where it asks for a body


async def get_studio(request: Request) -> Studio:
    """Return the studio that the lifespan opened."""
    studio: Studio = request.app.state.studio
    return studio


def get_session(request: Request) -> Iterator[Session]:
    """One request, one reading transaction. Writing services open their own and commit before they return."""
    studio: Studio = request.app.state.studio
    with studio.database.reading() as session:
        yield session


async def get_language(accept_language: Annotated[str | None, Header(include_in_schema=False)] = None) -> Language:
    """Return the language in which sentences are answered."""
    return pick_language(accept_language)


StudioDep = Annotated[Studio, Depends(get_studio)]
SessionDep = Annotated[Session, Depends(get_session, scope="function")]
"""Closed before the answer is sent (scope `function`), so that a slow reader holds no connection."""
LanguageDep = Annotated[Language, Depends(get_language)]
