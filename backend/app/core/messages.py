"""Sentences for people, by key, in English and French; the only place that reads `locales/*.json`.

A key is `code` or `code.variant` (`not_found.dataset`); the part before the first dot is the public code.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Literal

Language = Literal["en", "fr"]
WORDS = frozenset(("kind", "reason"))
"""Parameters that may be a word or a sentence of a library; `word.*` says it in the reader's language where it is known."""
LANGUAGES: tuple[Language, ...] = ("en", "fr")


@cache
def catalogue(language: Language) -> dict[str, dict[str, str]]:
    """Return every key with its `message` and `hint` templates."""
    text = files("app.core").joinpath("locales", f"{language}.json").read_text("utf-8")
    loaded: dict[str, dict[str, str]] = json.loads(text)
    return loaded


def localise(key: str, language: Language = "en", /, **params: object) -> tuple[str, str]:
    """Return (message, hint) for `key` with `params` filled in. Raise KeyError for an unknown key."""
    entry = catalogue(language)[key]
    shown = {name: _DecimalComma(value) if type(value) is float and language == "fr" else value for name, value in params.items()}
    for name in WORDS.intersection(shown):
        if word := catalogue(language).get(f"word.{shown[name]}"):
            shown[name] = word["message"]
    return entry["message"].format(**shown), entry.get("hint", "").format(**shown)


class _DecimalComma(float):
    """A number that French sentences write with a comma."""

    def __format__(self, spec: str) -> str:
        return super().__format__(spec).replace(".", ",")


def pick_language(accept_language: str | None) -> Language:
    """Choose a language from an Accept-Language header (RFC 9110) or a POSIX locale such as `fr_FR.UTF-8`."""
    best: tuple[float, Language] = (0.0, "en")
    for part in (accept_language or "").replace("_", "-").split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            weight = 0.0
        primary = tag.split("-")[0].lower()
        for language in LANGUAGES:
            if primary == language and weight > best[0]:
                best = (weight, language)
    return best[1]
