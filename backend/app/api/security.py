"""Who may talk to this server, and what a browser may do with its answers.

Three gates, in this order, over every method and every address:
1. The Host header must name this server (a page that was rebound to our address sends its own name).
2. A browser must come from our own page: Origin equal to Host, and nothing of the API embedded elsewhere (Sec-Fetch-Site).
3. Where a credential is needed (services/exposure.py): a token, or the cookie of a browser that signed in. A stranger is
   served by an application of its own that knows health, signing in and the files of the page, and nothing else; whatever
   is added to the main one, mounted or streamed, is behind the gate from the start.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import error_response
from app.api.streams import Turnstile, Visit, is_job_stream
from app.core.errors import AffinageError, Forbidden, Unauthorized
from app.core.messages import pick_language
from app.core.settings import Settings
from app.services.access_service import Access
from app.services.exposure import answers_to

GUARDED = ("/api", "/v1", "/openapi.json")
"""Addresses that belong to the API; the page's own router has all others."""
FOR_STRANGERS = frozenset({"/api/health", "/api/session"})
MAX_BODY_BYTES = 16 << 20
"""Largest body of a call that is no upload; uploads have their own limit (AFFINAGE_MAX_UPLOAD_BYTES)."""
UPLOAD_PATHS = frozenset({"/api/datasets", "/v1/files"})

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """Refuse what may not pass; limit bodies; set the security headers."""

    def __init__(self, app: ASGIApp, access: Access, strangers: ASGIApp) -> None:
        self.app = app
        self.access = access
        self.strangers = strangers
        self._turnstile = Turnstile()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here: one that is opened is closed before it is accepted
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if is_guarded(scope["path"]):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        problem: AffinageError | None = find_refusal(scope["path"], headers, self.access.settings)
        app = self.app
        if problem is None and self.access.required and not self._has_entered(headers):
            app = self.strangers
            if is_guarded(scope["path"]) and scope["path"] not in FOR_STRANGERS:
                problem = Unauthorized()
        if problem is not None:
            language = pick_language(headers.get("accept-language"))
            asked = {"WWW-Authenticate": "Bearer"} if problem.status_code == 401 else None
            await error_response(problem, language, asked, path=scope["path"])(scope, receive, send_with_headers)
            return
        if is_job_stream(scope["path"]):
            await self._turnstile.wait_for_turn()
        receive = limited(scope, receive)
        if self.access.required and app is self.app:
            await Visit(receive, send_with_headers, lambda: self._has_entered(headers)).serve(app, scope)
            return
        await app(scope, receive, send_with_headers)

    def _has_entered(self, headers: Headers) -> bool:
        cookie = cookie_parser(headers.get("cookie", "")).get(cookie_name(self.access.settings))
        return self.access.find_caller(headers.get("authorization", ""), cookie) is not None


def is_guarded(path: str) -> bool:
    """Whether an address belongs to the API."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in GUARDED)


def cookie_name(settings: Settings) -> str:
    """Return the name of the session cookie: browsers keep cookies by host alone, and a machine may run two studios."""
    return f"affinage_session_{settings.port}"


def find_refusal(path: str, headers: Headers, settings: Settings) -> Forbidden | None:
    """Return why a request is refused whoever sends it, or None."""
    host = headers.get("host", "")
    if len(headers.getlist("host")) != 1 or not answers_to(settings, host):
        return Forbidden("host", host=host[:200])
    origin = headers.get("origin")
    if origin is not None and not is_own_origin(origin, host):
        return Forbidden("origin", origin=origin[:200])
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "")
    if is_guarded(path) and site in ("cross-site", "same-site") and mode != "navigate":
        return Forbidden("origin", origin=site)
    return None


def is_own_origin(origin: str, host: str) -> bool:
    """Whether a page belongs to the very server that it calls: same name and port. Another port is another program."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower() and not (parts.path or parts.query)


def limited(scope: Scope, receive: Receive) -> Receive:
    """Return `receive` that stops a body beyond MAX_BODY_BYTES, except for uploads, which count their own bytes."""
    if scope["path"] in UPLOAD_PATHS:
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
