"""Access tokens, sign-in, and whether a request may pass."""

from dataclasses import dataclass
from datetime import timedelta

from app.core.errors import NotFound, Unauthorized
from app.core.settings import Settings
from app.services.exposure import needs_credential
from app.storage.access_file import AccessFile, Credential, is_valid

SESSION = timedelta(days=30)
"""How long a browser stays signed in."""
LAUNCH_CODE = timedelta(minutes=10)
"""How long the link that `affinage serve` prints works, once."""
LAUNCH_NAME = "launch link"


@dataclass(frozen=True)
class SignedIn:
    """A new session: its record, and the secret that goes into the cookie."""

    session: Credential
    secret: str


class Access:
    """The door of one data folder under its settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.required = needs_credential(settings)
        self.file = AccessFile(settings.data_dir)

    def find_caller(self, authorization: str, cookie: str | None) -> Credential | None:
        """Return whose `Authorization: Bearer` or session cookie this is, or None."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self.file.find("token", secret.strip())
        return self.file.find("session", cookie) if cookie else None

    def sign_in(self, *, token: str | None, code: str | None) -> SignedIn:
        """Exchange a token or a launch code for a session. Raise Unauthorized."""
        if token is not None:
            found = self.file.find("token", token.strip())
            if found is None:
                raise Unauthorized("token")
            return SignedIn(*self.file.add("session", found.name, lasts=SESSION, parent=found.id))
        made = self.file.exchange(code or "", lasts=SESSION)
        if made is None:
            raise Unauthorized("code")
        return SignedIn(*made)

    def make_launch_code(self) -> str:
        """Return a code that opens the page once, within LAUNCH_CODE."""
        return self.file.add("code", LAUNCH_NAME, lasts=LAUNCH_CODE)[1]

    def list(self) -> list[Credential]:
        """Return tokens and signed-in browsers, newest first."""
        shown = [record for record in self.file.records().values() if record.kind != "code" and is_valid(record)]
        return sorted(shown, key=lambda record: record.created_at, reverse=True)

    def has_token(self) -> bool:
        """Whether anybody has a token."""
        return any(record.kind == "token" for record in self.list())

    def create(self, name: str, days: int | None) -> tuple[Credential, str]:
        """Make a token; the secret is returned once and kept nowhere."""
        return self.file.add("token", name, lasts=timedelta(days=days) if days else None)

    def revoke(self, credential_id: str) -> None:
        """End a token with its sessions, or one session. Raise NotFound."""
        if not self.file.revoke(credential_id):
            raise NotFound("token", token_id=credential_id[:100])
