"""What should not be learned by heart: e-mail addresses, telephone numbers, keys and numbers that open something.

Found by their form alone: an address in an example counts as one. Numbers of cards and accounts count only where
their check digits are right.
"""

import re
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

PatternCode = Literal["emails", "phones", "secrets"]

PLACEHOLDERS: dict[PatternCode, str] = {"emails": "[email]", "phones": "[phone]", "secrets": "[secret]"}
"""What a fix writes in their place."""


class Hit(NamedTuple):
    """A place in a text."""

    code: PatternCode
    start: int
    end: int


_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
_PHONE = re.compile(
    r"(?<![\w.,+/-])(?:"
    r"(?:\+|00)[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,6}"  # international
    r"|0[1-9](?:[ .-]?\d{2}){4}"  # France
    r"|\(\d{3}\) ?\d{3}-\d{4}|\d{3}[-.]\d{3}[-.]\d{4}"  # North America
    r")(?![\w-]|[.,]\d)"
)
_SECRETS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("PRIVATE KEY", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]{0,20000}-----END [A-Z ]*PRIVATE KEY-----)?")),
    ("AKIA", re.compile(r"(?<!\w)(?:AKIA|ASIA)[0-9A-Z]{16}(?!\w)")),
    ("ASIA", re.compile(r"(?<!\w)ASIA[0-9A-Z]{16}(?!\w)")),
    *((f"gh{kind}_", re.compile(rf"(?<!\w)gh{kind}_[A-Za-z0-9]{{36,}}")) for kind in "pousr"),
    ("github_pat_", re.compile(r"(?<!\w)github_pat_[A-Za-z0-9_]{30,}")),
    ("glpat-", re.compile(r"(?<!\w)glpat-[\w-]{20,}")),
    ("sk-", re.compile(r"(?<![\w-])sk-[A-Za-z0-9_-]{20,}")),
    ("sk_live_", re.compile(r"(?<!\w)[sr]k_live_[A-Za-z0-9]{16,}")),
    ("hf_", re.compile(r"(?<!\w)hf_[A-Za-z0-9]{30,}")),
    ("AIza", re.compile(r"(?<!\w)AIza[\w-]{35}")),
    ("xox", re.compile(r"(?<!\w)xox[abeoprs]-[A-Za-z0-9-]{10,}")),
    ("eyJ", re.compile(r"(?<!\w)eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),
)
"""A text that stands in every such key, which is quick to look for; and the form of the whole key."""
_NUMBERS = re.compile(r"(?<![\w.,])\d(?:[ -]?\d){12,18}(?![\w]|[.,]\d)")
_ACCOUNT = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_DIGITS = re.compile(r"\d{2}[\d .()-]{6}")


def find_patterns(text: str) -> Iterator[Hit]:
    """Yield every place, kind by kind; places of two kinds may overlap."""
    if "@" in text:
        yield from (Hit("emails", *found.span()) for found in _EMAIL.finditer(text))
    for mark, form in _SECRETS:
        if mark in text:
            yield from (Hit("secrets", *found.span()) for found in form.finditer(text))
    if _DIGITS.search(text) is None:
        return
    for form, is_real in _NUMBERED:
        yield from (Hit("secrets", *found.span()) for found in form.finditer(text) if is_real(found.group()))
    numbers = [found.span() for found in _NUMBERS.finditer(text)]
    for found in _PHONE.finditer(text):
        start, end = found.span()
        digits = sum(map(str.isdigit, found.group()))
        if 9 <= digits <= 15 and not any(first <= start and end <= last for first, last in numbers):
            yield Hit("phones", start, end)


def mask(text: str, codes: frozenset[PatternCode]) -> str:
    """Return the text with the places of these kinds replaced."""
    hits = sorted((hit for hit in find_patterns(text) if hit.code in codes), key=lambda hit: (hit.start, -hit.end))
    parts: list[str] = []
    at = 0
    for hit in hits:
        if hit.start < at:
            continue
        parts += [text[at : hit.start], PLACEHOLDERS[hit.code]]
        at = hit.end
    return "".join([*parts, text[at:]]) if parts else text


def is_card_number(text: str) -> bool:
    """Check the digits of a payment card (Luhn, ISO/IEC 7812-1); cards begin with 2 to 6."""
    digits = [int(letter) for letter in text if letter.isdigit()]
    if not 13 <= len(digits) <= 19 or not 2 <= digits[0] <= 6 or len(set(digits)) == 1:
        return False
    doubled = [digit if place % 2 == 0 else digit * 2 - 9 * (digit > 4) for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def is_account_number(text: str) -> bool:
    """Check an IBAN (ISO 13616: modulo 97)."""
    compact = text.replace(" ", "")
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])) % 97 == 1


_NUMBERED: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = ((_NUMBERS, is_card_number), (_ACCOUNT, is_account_number))
