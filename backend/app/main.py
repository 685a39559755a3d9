"""The server: `create_app()` puts it together, `serve()` runs it."""

import gc
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from app.api import page
from app.api.deps import refuse_half_characters
from app.api.errors import install_error_handlers
from app.api.job_lines import JobLines
from app.api.responses import correct_streams, problems
from app.api.routes import (
    access,
    chat,
    dataset_versions,
    datasets,
    disk,
    exports,
    jobs,
    models,
    openai_chat,
    openai_files,
    openai_tuning,
    plans,
    presets,
    reports,
    system,
    trials,
)
from app.api.security import Gate
from app.core.errors import Conflict
from app.core.logging import configure_logging
from app.core.settings import Settings
from app.services.access_service import Access
from app.services.exposure import check_address
from app.services.studio import open_studio, prepare_data
from app.services.system_service import versions
from app.storage.server_lock import AlreadyServed, ServerLock

STREAMS_END_SECONDS = 5
"""Open event streams and chats may take this long to end when the server stops."""

KEEP_ALIVE_SECONDS = 30
"""A page asks again every 4 to 20 s; uvicorn's own 5 s would make it connect anew each time, or meet a closing connection."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application. The data folder is opened when it starts and let go when it stops."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        studio = open_studio(settings)
        try:
            with studio.supervising(f"http://{settings.host}:{settings.port}", required=True):
                app.state.studio = studio
                yield
        finally:
            studio.close()

    app = Application(
        title="Affinage",
        version=versions()["affinage"],
        summary="Self-hosted studio for fine-tuning language models.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        responses=problems(400, 401, 403, 422, 500),
        dependencies=[Depends(refuse_half_characters)],
    )
    install_error_handlers(app)
    app.state.access = Access(settings)
    app.state.job_lines = JobLines()
    app.add_middleware(Gate, access=app.state.access, strangers=create_strangers_app(app.state.access))
    app.include_router(access.sessions)
    for routes in (
        access,
        system,
        models,
        datasets,
        dataset_versions,
        plans,
        presets,
        jobs,
        reports,
        exports,
        disk,
        chat,
        trials,
        openai_chat,
        openai_files,
        openai_tuning,
    ):
        app.include_router(routes.router)
    app.include_router(openai_chat.passed_on)
    app.include_router(exports.offers)
    app.include_router(datasets.imports)
    app.include_router(page.router)
    return app


def create_strangers_app(door: Access) -> FastAPI:
    """Return what somebody without a credential is served where one is needed: health, signing in, the files of the page."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    app.state.access = door
    app.include_router(access.sessions)
    app.add_api_route("/api/health", system.get_health, methods=["GET"])
    app.include_router(page.router)
    return app


class Application(FastAPI):
    """FastAPI with one correction to its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """Return the document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = correct_streams(super().openapi())
        return self.openapi_schema


def operation_id(route: APIRoute) -> str:
    """Name an operation after its function, so that generated clients read well."""
    return route.name


class AffinageServer(uvicorn.Server):
    """Ends the open event streams as soon as it is told to stop; uvicorn alone would wait for them."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGINT and SIGTERM."""
        studio = getattr(self._app.state, "studio", None)
        if studio is not None:
            studio.broker.close()
        super().handle_exit(sig, frame)


def serve(settings: Settings, announce: Callable[[str | None], None] | None = None) -> None:
    """Run the server until it is told to stop.

    `announce` is called once the port is ours, with a one-time launch code where signing in is needed. Raise Forbidden for
    an address that others can reach while there is no token, Conflict when the port or the data folder is taken or the database
    is of a newer version.
    """
    door = Access(settings)
    check_address(settings, has_token=door.has_token())
    lock = ServerLock(settings.data_dir)
    if not settings.shares_database and lock.held():
        raise AlreadyServed(settings.data_dir, lock.owner() or {})
    os.umask(0o077)  # what this process and its trainers write is its owner's alone
    prepare_data(settings)  # here, so that a database that cannot be used is a sentence, not a server that fails to start
    try:
        listener = socket.create_server(
            (settings.host, settings.port), family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET, backlog=2048
        )
    except OSError as problem:
        raise Conflict("port", host=settings.host, port=settings.port, reason=problem.strerror) from None
    # Connections inherit it. asyncio sets it itself only where the listener names its protocol; without, the head of an
    # answer on a kept connection waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    configure_logging(settings.data_dir / "logs" / "server.log", settings.log_level)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STREAMS_END_SECONDS,
    )
    gc.freeze()  # 150,000 objects of the imports, which a full collection would look through: 90 ms in the middle of a request
    with listener:
        if announce is not None:
            announce(door.make_launch_code() if door.required else None)
        AffinageServer(config, app).run(sockets=[listener])
