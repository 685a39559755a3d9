"""Every setting with its value and where it comes from; passwords left out."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.core.settings import Settings

HIDDEN = "***"


@dataclass(frozen=True)
class SettingView:
    """One setting as it is in force."""

    name: str
    value: str | int | float | bool | None
    origin: str
    variable: str
    meaning: str


def list_settings(settings: Settings) -> list[SettingView]:
    """Return every setting in the order of the class."""
    origins = find_origins(settings.data_dir, set(Settings.model_fields))
    values = settings.model_dump(mode="json") | {
        "database_url": hide_password(settings.database_url),
        "webhook_url": hide_path(settings.webhook_url),
    }
    return [
        SettingView(name, values[name], origins.get(name, "default"), f"AFFINAGE_{name.upper()}", field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def hide_password(url: str) -> str:
    """Return a database address that may be shown."""
    if not url:
        return url
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return HIDDEN


def hide_path(url: str) -> str:
    """Return an address whose path may be a secret: of a webhook, the path alone often lets a notice in."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}/{HIDDEN}" if parts.hostname else HIDDEN if url else url


def find_origins(data_dir: Path, names: set[str]) -> dict[str, str]:
    """Return where each setting that is not the default was set: a variable, or the TOML file."""
    file = Path(os.environ.get("AFFINAGE_CONFIG") or data_dir / "affinage.toml")
    from_file = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    variables = {name.upper() for name in os.environ}
    origins = {name: str(file) for name in names if name in from_file}
    return origins | {name: f"AFFINAGE_{name.upper()}" for name in names if f"AFFINAGE_{name.upper()}" in variables}
