"""Signing in, tokens, settings."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

TokenName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class SessionRead(BaseModel):
    """Whether this server asks for a credential, and whether the caller has one."""

    required: bool
    signed_in: bool
    name: str | None
    """Of the token, where one was used."""


class SignInRequest(BaseModel):
    """Exactly one of the two."""

    token: str | None = Field(default=None, min_length=1, max_length=200)
    code: str | None = Field(default=None, min_length=1, max_length=200)
    """The one-time code of the link that `affinage serve` prints."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.token is None) == (self.code is None):
            raise ValueError("give a token or a code")
        return self


class AccessTokenRead(BaseModel):
    """A token, or a browser that signed in."""

    id: str
    kind: Literal["token", "session"]
    name: str
    created_at: str
    expires_at: str | None
    """Null: until it is revoked."""
    current: bool
    """Whether this very request came with it."""


class AccessTokenList(BaseModel):
    """Newest first."""

    tokens: list[AccessTokenRead]


class CreateTokenRequest(BaseModel):
    """A name says later what may be revoked."""

    name: TokenName
    expires_in_days: int | None = Field(default=None, ge=1, le=3650)


class TokenCreated(AccessTokenRead):
    """The one answer that ever holds the secret."""

    token: str


class SettingRead(BaseModel):
    """One setting as it is in force."""

    name: str
    value: str | int | float | bool | None
    origin: str
    """`default`, the environment variable, or the TOML file."""
    variable: str
    meaning: str


class SettingList(BaseModel):
    """All settings. They change in the environment or in the TOML file, never over HTTP."""

    settings: list[SettingRead]
