"""Answers that teach a model to say nothing: refusals, and what stands where an answer was to be written."""

import re

_REFUSALS = re.compile(
    r"\bas an? (?:ai|artificial intelligence|language model|large language model)\b"
    r"|\bi(?:['’]m| am) (?:really |very |so )?(?:sorry|afraid),? (?:but )?"
    r"(?:as an ai|i (?:can(?:not|['’]t)|am (?:not able|unable)|do not|don['’]t))"
    r"|^(?:sorry|unfortunately|i apologi[sz]e),? (?:but )?i (?:can(?:not|['’]t)|am (?:not able|unable))\b"
    r"|^i (?:can(?:not|['’]t)|am (?:not able|unable) to) (?:help|assist|answer|provide|fulfil|fulfill|comply|complete|do that)\b"
    r"|\ben tant qu(?:e modèle de langage|e modèle de langue|['’]ia\b|['’]intelligence artificielle|['’]assistant virtuel)"
    r"|\bje suis (?:vraiment )?(?:désolée?|navrée?),? (?:mais )?je (?:ne (?:peux|suis|dispose)|n['’])"
    r"|^(?:désolée?|malheureusement),? (?:mais )?je ne (?:peux|suis)\b"
    r"|^je ne (?:peux pas|suis pas en mesure de) (?:vous )?(?:aider|répondre|fournir|fournir de|faire cela)\b",
    re.IGNORECASE,
)
"""Sentences with which assistants refuse, in English and French."""
_MARKS = (
    "as a a", "as an a", "as a l", "as an l", "sorry", "afraid", "unfortunately", "i apolog", "en tant qu", "désolé", "navré",
    "malheureusement",
)  # fmt: skip
_BEGINNINGS = ("i can", "i am", "je ne")
"""Every refusal holds a mark, or begins so, in lower case: looked for first, as that is quick."""
_LOOKED_AT = 300
"""Characters at the beginning of an answer; a refusal stands there."""

_PLACEHOLDERS = frozenset(
    (
        "n/a",
        "na",
        "nan",
        "none",
        "null",
        "undefined",
        "todo",
        "tbd",
        "fixme",
        "noinput",
        "nooutput",
        "no output",
        "no answer",
        "no response",
        "aucune réponse",
        "sans réponse",
        "à compléter",
        "à remplir",
        "lorem ipsum",
    )
)
_WRAPPING = " \t\n<>[](){}*_-.…?!:;,\"'`#/\\«»“”"


def find_refusal(answer: str) -> str | None:
    """Return the words of a refusal at the beginning of an answer."""
    text = answer[:_LOOKED_AT].lstrip()
    small = text.lower()
    if not small.startswith(_BEGINNINGS) and not any(mark in small for mark in _MARKS):
        return None
    found = _REFUSALS.search(text)
    return found.group() if found else None


def is_placeholder(answer: str) -> bool:
    """Say whether an answer is only a mark for something missing, or has neither letter nor digit."""
    core = answer.strip(_WRAPPING)
    return (not core and not any(map(_says_something, answer))) or core.casefold() in _PLACEHOLDERS


def _says_something(letter: str) -> bool:
    """Letters and digits do; so do signs beyond ASCII punctuation (an emoji as the answer, a formula)."""
    return letter.isalnum() or (ord(letter) > 0x7F and letter not in _WRAPPING and not letter.isspace())
