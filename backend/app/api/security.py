"""Who may talk to this server, and what a browser may do with its answers.

The server has no accounts yet: it is open to this machine and to nobody else. Against web pages that the same person
has open elsewhere, the Host header must be local (DNS rebinding), and so must Origin on calls that change something
(cross-site requests).
"""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import error_response
from app.core.errors import Forbidden
from app.core.messages import pick_language

LOCAL = r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?"
LOCAL_HOST = re.compile(LOCAL, re.IGNORECASE)
LOCAL_ORIGIN = re.compile(rf"https?://{LOCAL}", re.IGNORECASE)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_BODY_BYTES = 16 << 20
"""Largest body of a call that is no upload; uploads have their own limit (AFFINAGE_MAX_UPLOAD_BYTES)."""
UPLOAD_PATH = "/api/datasets"

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LocalOnly:
    """Refuse what does not come from this machine's own pages; limit bodies; set the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        problem = refusal(scope["method"], Headers(scope=scope))
        if problem is not None:
            language = pick_language(Headers(scope=scope).get("accept-language"))
            await error_response(problem, language)(scope, receive, send_with_headers)
            return
        await self.app(scope, limited(scope, receive), send_with_headers)


def refusal(method: str, headers: Headers) -> Forbidden | None:
    """Return why a request is refused, or None."""
    host = headers.get("host", "")
    if not LOCAL_HOST.fullmatch(host):
        return Forbidden("host", host=host[:200])
    origin = headers.get("origin")
    if method not in SAFE_METHODS and origin is not None and not LOCAL_ORIGIN.fullmatch(origin):
        return Forbidden("origin", origin=origin[:200])
    return None


def limited(scope: Scope, receive: Receive) -> Receive:
    """Return `receive` that stops a body beyond MAX_BODY_BYTES, except for uploads, which count their own bytes."""
    if scope["path"] == UPLOAD_PATH:
        return receive
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise HTTPException(413)
        return message

    return receive_limited
