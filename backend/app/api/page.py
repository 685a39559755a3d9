"""The built web page: hashed files for ever, index.html never cached, every other address is the page's own router's."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response

import app
from app.core.errors import NotFound
from app.core.settings import CHECKOUT

NOT_BUILT = (
    "The web page is not built yet. Run `make page` in the checkout, then reload.\n"
    "La page web n'est pas encore construite. Lancez `make page` dans le dépôt, puis rechargez.\n"
)
READING = ["GET", "HEAD"]
LONGEST_PATH = 1000
"""Characters of an address; the longest of the page names a data set or a job."""
FOR_EVER = "public, max-age=31536000, immutable"


def page_folder() -> Path | None:
    """Return the folder of the built page: inside an installed wheel, or `frontend/dist` of a checkout."""
    for folder in (Path(app.__file__).resolve().parent / "web", CHECKOUT / "frontend" / "dist"):
        if (folder / "index.html").is_file():
            return folder
    return None


router = APIRouter(include_in_schema=False)


@router.api_route("/docs", methods=READING)
def show_docs() -> Response:
    """Serve the page that renders /openapi.json, built with the rest: no CDN, no inline script."""
    return _send("docs.html")


@router.api_route("/{path:path}", methods=READING)
def show_page(path: str, request: Request) -> Response:
    """Serve a file of the built page, or its index for an address of its router."""
    if path == "api" or path.startswith(("api/", "v1/")):
        raise NotFound("route", path=request.url.path)
    return _send(path)


def _send(path: str) -> Response:
    folder = page_folder()
    if folder is None:
        return PlainTextResponse(NOT_BUILT, status_code=503, headers={"Cache-Control": "no-store"})
    if not path.isprintable() or len(path) > LONGEST_PATH:
        raise NotFound("route", path=f"/{path[:LONGEST_PATH]}")
    file = (folder / path).resolve()
    if path and file.is_relative_to(folder.resolve()) and file.is_file():
        hashed = path.startswith("assets/")
        return FileResponse(file, headers={"Cache-Control": FOR_EVER if hashed else "no-cache"})
    if path.startswith("assets/") or "." in Path(path).name:
        raise NotFound("route", path=f"/{path}")
    return FileResponse(folder / "index.html", headers={"Cache-Control": "no-cache"})
