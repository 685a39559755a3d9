"""Settings: environment `AFFINAGE_*`, then a TOML file (`AFFINAGE_CONFIG` or `<data_dir>/affinage.toml`), then defaults."""

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

CHECKOUT = Path(__file__).resolve().parents[3]
"""Root of the repository when running from a checkout; meaningless in an installed wheel."""


def default_data_dir() -> Path:
    """Return `<repository>/data` in a checkout, else the user's data folder (XDG base directory specification)."""
    if (CHECKOUT / "backend" / "pyproject.toml").is_file():
        return CHECKOUT / "data"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "affinage"


class Settings(BaseSettings):
    """Everything that can be configured; each field is also the environment variable `AFFINAGE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="AFFINAGE_", extra="ignore", frozen=True, use_attribute_docstrings=True)

    data_dir: Path = Field(default_factory=default_data_dir)
    """The one folder that holds database, data sets, models, jobs, sockets and logs."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""
    published_on_loopback: bool = False
    """True only in compose.yaml: the container listens on all addresses, but the host publishes it on 127.0.0.1."""
    require_token: bool = False
    """Ask for a token or a signed-in browser on loopback too; everywhere else they are always asked for."""
    allowed_hosts: str = ""
    """Names under which a proxy or other machines reach this server, separated by commas; setting any asks for credentials."""
    database_url: str = ""
    """SQLAlchemy URL; empty means SQLite inside `data_dir`."""
    max_upload_bytes: int = Field(default=4 << 30, ge=1)
    """Largest file that may be uploaded, in bytes."""
    model_roots: str = ""
    """Folders outside `data_dir` from which local models may be used, separated by the OS path separator."""
    openai_models: str = ""
    """Who answers to OpenAI's names: `NAME=MODEL` pairs separated by commas, NAME may hold `*`; else the embedded one."""
    upstream_url: str = ""
    """Address of an OpenAI-compatible server (vLLM, llama.cpp) that answers for the models it lists; empty = none."""
    upstream_key: SecretStr = SecretStr("")
    """The key that the upstream server asks for."""
    inference_idle_seconds: float = Field(default=600.0, gt=0)
    """The chat worker unloads its model after this many seconds without a request."""
    trace_plans: bool = True
    """Follow one training step of the model for each plan (exact memory); false = formulas alone, which need no torch."""
    trace_idle_seconds: float = Field(default=600.0, gt=0)
    """The process that traces ends after this many seconds without a plan."""
    stop_grace_seconds: float = Field(default=20.0, gt=0)
    """Seconds between asking a trainer to stop and killing it."""
    stall_seconds: float = Field(default=1800.0, gt=0)
    """A trainer that shows no sign of life for so long is ended, and its job tried again from the last checkpoint."""
    webhook_url: str = ""
    """Address that is told when a job ends: one POST of JSON, tried three times; empty = nobody."""
    trackers: str = Field(default="", pattern=r"^ *((tensorboard|mlflow|wandb) *(, *|$))*$")
    """Who gets the curves of a job when it ends: `tensorboard`, `mlflow`, `wandb` (offline), separated by commas."""
    log_level: str = "INFO"
    """Level of the server's log."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        data_dir = Path(os.environ.get("AFFINAGE_DATA_DIR") or default_data_dir())
        toml = Path(os.environ.get("AFFINAGE_CONFIG") or data_dir / "affinage.toml")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=toml)

    @property
    def shares_database(self) -> bool:
        """Whether several servers may use the database, and this data folder, at once: with PostgreSQL."""
        return not self.resolved_database_url.startswith("sqlite")

    @property
    def resolved_database_url(self) -> str:
        """`database_url`, or the SQLite file inside the data folder."""
        return self.database_url or f"sqlite:///{self.data_dir / 'affinage.db'}"
