"""Put the migrations and the built page into the wheel; an editable install reads them where they lie."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """Hatchling calls `initialize` before it collects files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the extra folders to a standard wheel; refuse to build one without the page."""
        if version == "editable":
            return
        page = Path(self.root).parent / "frontend" / "dist"
        if not (page / "index.html").is_file():
            raise SystemExit("frontend/dist is missing: run `make page` before building the wheel.")
        build_data["force_include"][str(page)] = "app/web"
        build_data["force_include"][str(Path(self.root) / "migrations")] = "app/migrations"
