"""The examples of ordinary records, several times as fast as `examples` makes them, and the same.

A record is ordinary where every part that the mapping names is a text and every turn has a role and a text. For any other
the makers answer None, and `examples` judges it; so nothing is refused and nothing is repaired here.
"""

from collections.abc import Callable, Sequence
from collections.abc import Mapping as Values
from itertools import repeat
from operator import contains

from app.contracts.dataset import Mapping, PlainExample, PlainMessage
from app.datasets.cells import tidy, unify_breaks
from app.datasets.turns import OPEN_END, ROLES

Maker = Callable[[int, Values[str, object]], PlainExample | None]
"""Takes the number of a record and its values. Its texts may hold half surrogate pairs, which no encoding can write."""
PairMaker = Callable[[Sequence[Values[str, object]]], tuple[list[str], list[str]] | None]
"""Takes the values of some records; returns the questions and the answers that stand in their examples.

None where a record is not ordinary, or not a question with its answer and no more.
"""

_PAIRS = ("alpaca", "question_answer", "prompt_completion")
_TURN_KEYS = {"messages": ("role", "content"), "sharegpt": ("from", "value")}


def compile_maker(mapping: Mapping) -> Maker | None:  # noqa: PLR0911 - one shape after another
    """Return the maker for a mapping, or None where every record has to be looked at."""
    if mapping.verdict:
        return None
    if mapping.shape == "text" and mapping.text:
        return _texts(mapping.text)
    if mapping.shape in _TURN_KEYS and mapping.messages and not mapping.system:
        return _conversations(mapping.messages, *_TURN_KEYS[mapping.shape])
    if mapping.messages or mapping.history or not mapping.instruction:
        return None
    if mapping.shape in _PAIRS and mapping.output:
        return _pairs(mapping.instruction, mapping.input, mapping.output, mapping.system)
    if mapping.shape == "classification" and mapping.label:
        return _pairs(mapping.instruction, mapping.input, mapping.label, mapping.system)
    if mapping.shape == "preference" and mapping.output and mapping.rejected and not (mapping.system or mapping.input):
        return _preferences(mapping.instruction, mapping.output, mapping.rejected)
    return None


def compile_pair_maker(mapping: Mapping) -> PairMaker | None:
    """Return what makes all examples of some records in one go, or None where rows are no pairs of texts."""
    answering = mapping.label if mapping.shape == "classification" else mapping.output
    if mapping.shape not in (*_PAIRS, "classification") or not (mapping.instruction and answering):
        return None
    if mapping.messages or mapping.history or mapping.system or mapping.verdict:
        return None
    return _text_pairs(mapping.instruction, mapping.input, answering)


def _text_pairs(asking: str, context: str | None, answering: str) -> PairMaker:
    def make(records: Sequence[Values[str, object]]) -> tuple[list[str], list[str]] | None:
        questions, answers = _read_column(records, asking), _read_column(records, answering)
        if questions is None or answers is None or not all(answers):
            return None
        if context is not None:
            abouts = _read_column(records, context, missing="")
            if abouts is None:
                return None
            if any(abouts):
                pairs = zip(questions, abouts, strict=True)
                questions = [f"{question}\n\n{about}" if question and about else question or about for question, about in pairs]
        return (questions, answers) if all(questions) else None

    return make


def _read_column(records: Sequence[Values[str, object]], column: str, missing: str | None = None) -> list[str] | None:
    """Return the tidy texts of a column; `missing`: what null and a missing key stand for, where they are allowed."""
    values = [record.get(column) for record in records]
    kinds = set(map(type, values))
    if missing is not None and type(None) in kinds:
        values = [missing if value is None else value for value in values]
        kinds.remove(type(None))
    if kinds - {str}:
        return None
    texts: list[str] = values  # type: ignore[assignment]  # all are texts
    if any(map(contains, texts, repeat("\r"))):
        return list(map(tidy, texts))
    pairs = zip(texts, map(str.strip, texts), strict=True)
    # Python's strip returns the text itself where there is nothing to strip.
    return [bare if bare is text or "\n" not in bare else tidy(text) for text, bare in pairs]


def _texts(column: str) -> Maker:
    def make(row: int, values: Values[str, object]) -> PlainExample | None:
        text = values.get(column)
        if type(text) is not str or not text or text.isspace():
            return None
        return {"row": row, "text": unify_breaks(text)}

    return make


def _pairs(asking: str, context: str | None, answering: str, leading: str | None) -> Maker:
    """A question, with what it is about below it, and its answer; before them what the columns call the system's text."""

    def make(row: int, values: Values[str, object]) -> PlainExample | None:
        question, answer = values.get(asking), values.get(answering)
        if type(question) is not str or type(answer) is not str:
            return None
        question, answer = tidy(question), tidy(answer)
        if context is not None and (about := values.get(context)) is not None:
            if type(about) is not str:
                return None
            if about := tidy(about):
                question = f"{question}\n\n{about}" if question else about
        if not question or not answer:
            return None
        messages: list[PlainMessage] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if leading is not None and (system := values.get(leading)) is not None:
            if type(system) is not str:
                return None
            if system := tidy(system):
                messages.insert(0, {"role": "system", "content": system})
        return {"row": row, "messages": messages}

    return make


def _preferences(asking: str, preferring: str, rejecting: str) -> Maker:
    """A question with two answers, all of them texts; what may be a list of turns as JSON is looked at closer."""

    def make(row: int, values: Values[str, object]) -> PlainExample | None:
        question, good, bad = values.get(asking), values.get(preferring), values.get(rejecting)
        if type(question) is not str or type(good) is not str or type(bad) is not str:
            return None
        if question.lstrip()[:1] == "[" or good.lstrip()[:1] == "[" or bad.lstrip()[:1] == "[":
            return None
        question, good, bad = tidy(question), tidy(good), tidy(bad)
        if question.endswith(OPEN_END) or not question or not good or not bad or good == bad:
            return None
        asked: PlainMessage = {"role": "user", "content": question}
        return {
            "row": row,
            "messages": [asked, {"role": "assistant", "content": good}],
            "rejected": [asked, {"role": "assistant", "content": bad}],
        }

    return make


def _conversations(column: str, speaking: str, saying: str) -> Maker:
    """A list of turns with nothing but a speaker and a text each, one of them an answer."""

    def make(row: int, values: Values[str, object]) -> PlainExample | None:
        turns = values.get(column)
        if type(turns) is not list:
            return None
        messages: list[PlainMessage] = []
        asked = answered = False
        for turn in turns:
            if type(turn) is not dict or len(turn) != 2:
                return None
            speaker, content = turn.get(speaking), turn.get(saying)
            if type(speaker) is not str or type(content) is not str or not content or content.isspace():
                return None
            role = ROLES.get(speaker)
            if role is None:
                return None
            asked = asked or role in ("user", "tool")
            answered = answered or (asked and role == "assistant")
            messages.append({"role": role, "content": unify_breaks(content)})
        return {"row": row, "messages": messages} if answered else None

    return make
