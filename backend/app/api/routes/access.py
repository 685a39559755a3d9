"""Sign in and out, tokens, and the settings to look at."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.api.responses import NOT_FOUND, problems
from app.api.schemas.access import (
    AccessTokenList,
    AccessTokenRead,
    CreateTokenRequest,
    SessionRead,
    SettingList,
    SettingRead,
    SignInRequest,
    TokenCreated,
)
from app.api.security import cookie_name
from app.core.errors import NotFound
from app.services import settings_service
from app.services.access_service import SESSION, Access
from app.storage.access_file import Credential

sessions = APIRouter(prefix="/api/session", tags=["access"])
"""Served to strangers too."""
router = APIRouter(prefix="/api", tags=["access"])


def get_access(request: Request) -> Access:
    """Return the door of this server."""
    access: Access = request.app.state.access
    return access


def find_caller(request: Request, access: Annotated[Access, Depends(get_access)]) -> Credential | None:
    """Return whose credential came with the request, or None."""
    return access.find_caller(request.headers.get("authorization", ""), request.cookies.get(cookie_name(access.settings)))


AccessDep = Annotated[Access, Depends(get_access)]
CallerDep = Annotated[Credential | None, Depends(find_caller)]


@sessions.get("")
def get_session(access: AccessDep, caller: CallerDep) -> SessionRead:
    """Say whether a credential is needed here, and whether this request has one."""
    return SessionRead(required=access.required, signed_in=caller is not None, name=caller.name if caller else None)


@sessions.post("", responses=problems(401))
def sign_in(body: SignInRequest, request: Request, response: Response, access: AccessDep) -> SessionRead:
    """Exchange a token or a launch code for a cookie that scripts cannot read and other sites cannot send."""
    signed = access.sign_in(token=body.token, code=body.code)
    response.set_cookie(
        cookie_name(access.settings),
        signed.secret,
        max_age=int(SESSION.total_seconds()),
        path="/",
        httponly=True,
        samesite="strict",
        # A proxy may speak HTTPS for us; the browser tells in Origin how it came.
        secure=request.headers.get("origin", "").startswith("https://"),
    )
    return SessionRead(required=access.required, signed_in=True, name=signed.session.name)


@sessions.delete("", status_code=204)
def sign_out(response: Response, access: AccessDep, caller: CallerDep) -> None:
    """End this browser's session."""
    if caller is not None and caller.kind == "session":
        access.file.revoke(caller.id)
    response.delete_cookie(cookie_name(access.settings), path="/", httponly=True, samesite="strict")


def token_read(record: Credential, caller: Credential | None) -> AccessTokenRead:
    """Return a credential without anything secret."""
    return AccessTokenRead.model_validate(
        record.model_dump(include={"id", "kind", "name", "created_at", "expires_at"})
        | {"current": caller is not None and caller.id == record.id}
    )


@router.get("/tokens")
def list_tokens(access: AccessDep, caller: CallerDep) -> AccessTokenList:
    """List tokens and signed-in browsers, newest first; never a secret."""
    return AccessTokenList(tokens=[token_read(record, caller) for record in access.list()])


@router.post("/tokens", status_code=201)
def create_token(body: CreateTokenRequest, access: AccessDep) -> TokenCreated:
    """Make an access token. This answer alone shows it."""
    record, secret = access.create(body.name, body.expires_in_days)
    return TokenCreated(**token_read(record, None).model_dump(), token=secret)


@router.delete("/tokens/{token_id}", status_code=204, responses=NOT_FOUND)
def revoke_token(token_id: str, access: AccessDep) -> None:
    """End a token with the sessions that it opened, or one session; at once."""
    if token_id not in {record.id for record in access.list()}:
        raise NotFound("token", token_id=token_id[:100])
    access.revoke(token_id)


@router.get("/settings")
def list_settings(access: AccessDep) -> SettingList:
    """Show every setting with its origin. Nothing can be set over HTTP."""
    return SettingList(
        settings=[
            SettingRead.model_validate(found, from_attributes=True) for found in settings_service.list_settings(access.settings)
        ]
    )
