"""Answers that last: those who begin many at once leave room for others, and who may no longer enter is shown out."""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

RECHECK_SECONDS = 5.0
"""How long an open stream may go on after its token was revoked, its browser signed out, or its credential expired."""
BREATH_SECONDS = 0.001
"""Between two streams that begin: calls that wait, and the threads that serve them, get a core in it."""


def is_job_stream(path: str) -> bool:
    """Whether this address is a job's event stream."""
    return path.startswith("/api/jobs/") and path.endswith("/events")


class Turnstile:
    """Lets streams begin one after another, BREATH_SECONDS apart.

    After a restart every open page follows its job again in the same instant. Beginning costs about a millisecond of the
    loop each; two hundred in a row would keep a short call waiting for all of them, this way it waits for one or two.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def wait_for_turn(self) -> None:
        """Return when it is this one's turn; those who ask come in order."""
        async with self._turn:
            await asyncio.sleep(BREATH_SECONDS)


class Visit:
    """One answer to somebody who had to show a credential: it ends when the credential does.

    The application is told that its client has gone, which every stream heeds; the client sees an answer that ended well.
    """

    def __init__(self, receive: Receive, send: Send, is_welcome: Callable[[], bool]) -> None:
        self._receive = receive
        self._send = send
        self._is_welcome = is_welcome
        self._asked = self._answering = self._shown_out = False

    async def receive(self) -> Message:
        """Pass on what the client sends; once all of that is here, look every RECHECK_SECONDS whether it is still welcome."""
        if not self._asked:
            message = await self._receive()
            self._asked = not message.get("more_body", False)
            return message
        waiting = asyncio.ensure_future(self._receive())
        try:
            while not (await asyncio.wait({waiting}, timeout=RECHECK_SECONDS))[0]:
                if not self._is_welcome():
                    self._shown_out = True
                    return {"type": "http.disconnect"}
            return waiting.result()
        finally:
            waiting.cancel()

    async def send(self, message: Message) -> None:
        """Pass on what the application answers."""
        self._answering = message["type"] == "http.response.start" or message.get("more_body", False)
        await self._send(message)

    async def serve(self, app: ASGIApp, scope: Scope) -> None:
        """Let the application answer, and end the answer where it was broken off."""
        await app(scope, self.receive, self.send)
        if self._shown_out and self._answering:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
