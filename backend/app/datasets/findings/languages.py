"""Which language a text is in, from its script and its commonest words; None where that is not clear.

Short texts, code and tables have none. Good enough to find a French row among English ones, no more: languages that
share a script and are not listed are taken for none of the listed ones.
"""

import re
from collections import Counter
from collections.abc import Sequence

_COMMON_WORDS = {
    "en": "the and of to in is that for it with as was on are this be by from at or an not have you your which can their has"
    " what how why where who would could should my his there here they them about into if but we she",
    "fr": "le la les des et est une dans que qui pour pas sur au avec il ce plus par sont vous nous cette ou être aux du ne"
    " à où été je mais comme elle ses leur très aussi tout bien fait peut votre notre vos nos quel quelle combien quand comment"
    " pourquoi cela ça qu ici même encore toujours chez entre sans après avant",
    "de": "der die das und ist nicht ein eine zu den von mit sich auf für dem sie des im wird auch als werden oder dass ich",
    "es": "el los las y es una que en por con para del se como más pero su al lo está son puede este también muy usted hay",
    "it": "il gli di e è una che per con del della non sono nel si anche come più alla questo dei delle essere ha molto",
    "pt": "o os as e é uma que em para com não do da dos das por se mais como ao você são pode também muito seu está",
    "nl": "de het een en van is niet dat op te voor met zijn aan ook door maar deze worden naar bij kan je wordt hebben",
    "pl": "i w nie na się że do jest to jak po za przez dla ale od lub są może przy czy być oraz tego które można",
    "sv": "och att det som en är på av för med till den inte ett om har de kan från eller också vara detta men när",
    "tr": "ve bir bu için ile de da çok olarak daha olan gibi en ne kadar var sonra değil veya her ya ise olduğu",
}
_WORDS = {language: frozenset(words.split()) for language, words in _COMMON_WORDS.items()}
_ANY = frozenset().union(*_WORDS.values())

_FEWEST_WORDS = 4
"""Different common words of a language that a text must hold."""
_LEAD = 1.5
"""How many times as many as those of the next language."""

_SCRIPTS: tuple[tuple[int, int, str], ...] = (
    (0x0370, 0x03FF, "el"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0590, 0x05FF, "he"),
    (0x0600, 0x06FF, "arabic"),
    (0x0900, 0x097F, "devanagari"),
    (0x0E00, 0x0E7F, "th"),
    (0x3040, 0x30FF, "ja"),
    (0x4E00, 0x9FFF, "zh"),
    (0xAC00, 0xD7AF, "ko"),
)
"""First and last code point of a block, and the language (or the script, where several languages share it)."""
_IN_SCRIPTS = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last, _ in _SCRIPTS) + "]")
_SAMPLE_CHARACTERS = 400


def find_language(text: str, words: Sequence[str]) -> str | None:
    """Return the language of `text`; `words` are its words in lower case."""
    if not text.isascii() and (script := _find_script(text[:_SAMPLE_CHARACTERS])) is not None:
        return script
    found = _ANY.intersection(words)
    if len(found) < _FEWEST_WORDS:
        return None
    hits = sorted(((len(found & known), language) for language, known in _WORDS.items()), reverse=True)
    (best, language), (second, _) = hits[0], hits[1]
    return language if best >= _FEWEST_WORDS and best >= _LEAD * second else None


def _find_script(sample: str) -> str | None:
    """Return the script of most letters where it is not Latin; kana among Chinese characters make it Japanese."""
    foreign = list(map(ord, _IN_SCRIPTS.findall(sample)))
    if not foreign or 2 * len(foreign) < sum(map(str.isalpha, sample)):
        return None
    counts = Counter(name for code in foreign for first, last, name in _SCRIPTS if first <= code <= last)
    if counts["ja"] and counts["ja"] + counts["zh"] > sum(counts.values()) / 2:
        return "ja"
    return counts.most_common(1)[0][0]
