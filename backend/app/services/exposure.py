"""Who can reach this server, and whether they need a credential."""

import ipaddress
import os
import pwd
import socket
from pathlib import PurePath

from app.core.errors import Forbidden
from app.core.settings import Settings

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
PEOPLE = range(1000, 60_000)
"""User ids of people on Debian, Fedora and their relatives (UID_MIN, UID_MAX of login.defs)."""
NO_LOGIN = frozenset({"nologin", "false", "sync", ""})


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Return the names of `AFFINAGE_ALLOWED_HOSTS`, in lower case, each with its port where one was given."""
    return frozenset(name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip())


def is_loopback(settings: Settings) -> bool:
    """Whether only this machine reaches the server."""
    if settings.published_on_loopback or settings.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        return False


def needs_credential(settings: Settings) -> bool:
    """Whether every call needs a token or a session: anywhere but on a loopback that nothing leads to, and there if asked for."""
    return settings.require_token or bool(allowed_hosts(settings)) or not is_loopback(settings)


def check_address(settings: Settings, *, has_token: bool) -> None:
    """Refuse to listen where others can reach while nobody has a token. Raise Forbidden."""
    if not is_loopback(settings) and not has_token:
        raise Forbidden("bind", host=settings.host)


def answers_to(settings: Settings, host: str) -> bool:
    """Whether a Host header names this server. A page that was rebound to our address still sends its own name.

    On loopback: local names. Elsewhere also any address written in digits (a name is needed for rebinding), this machine's
    own name, and the names of AFFINAGE_ALLOWED_HOSTS.
    """
    host = host.lower()
    if host in allowed_hosts(settings):
        return True
    name, port = split_host(host)
    if not (port == "" or (port.isascii() and port.isdecimal() and int(port) < 65536)):
        return False
    if name in LOCAL_NAMES or name in allowed_hosts(settings):
        return True
    if is_loopback(settings):
        return False
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        own = socket.gethostname().lower()
        return name in {own, f"{own}.local"}
    return True


def split_host(host: str) -> tuple[str, str]:
    """Return (name, port) of a Host header; the port is empty where there is none."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and not port.endswith("]") else (host, "")


def find_other_people() -> list[str]:
    """Return the other people who can log in on this machine: an open loopback port is open to them too."""
    found = []
    for entry in pwd.getpwall():
        person = entry.pw_uid in PEOPLE and PurePath(entry.pw_shell).name not in NO_LOGIN
        if person and entry.pw_uid != os.getuid():
            found.append(entry.pw_name)
    return sorted(found)
