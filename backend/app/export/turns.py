"""A chat template as what stands before and after each message, learned by rendering conversations.

Ollama's templates are Go's, so a Jinja template cannot be passed on as it is. Most templates write each message between two
fixed texts; those texts are found by rendering, and the result is only used when it gives, on other conversations, exactly
what the template gives.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError

from app.contracts.dataset import Message
from app.datasets.template import ChatTemplate

_MARK = "affinage-content-mark"


@dataclass(frozen=True)
class Turns:
    """The texts around messages."""

    opening: str
    """Before everything when there is no system message: a default one, or nothing."""
    start: str
    """Before everything, always: the start token, where the template writes one that llama.cpp sets too."""
    around: dict[str, tuple[str, str]]
    """Role -> (before, after)."""
    prompt: str
    """What asks for an answer."""

    def render(self, messages: Sequence[Message]) -> str:
        """Return the text of `messages` with the request for an answer: what the Go template will give."""
        text = self.start
        if not any(message.role == "system" for message in messages):
            text += self.opening
        for message in messages:
            before, after = self.around[message.role]
            text += before + message.content + after
        return text + self.prompt

    def go_template(self) -> str:
        """Return the same as an Ollama template, without `start`: llama.cpp sets it."""
        parts = []
        if self.opening:
            parts.append("{{ if not .System }}" + _literal(self.opening) + "{{ end }}")
        branches = [
            ('{{ if eq .Role "' if index == 0 else '{{ else if eq .Role "')
            + f'{role}" }}}}{_literal(before)}{{{{ .Content }}}}{_literal(after)}'
            for index, (role, (before, after)) in enumerate(self.around.items())
        ]
        parts.append("{{ range .Messages }}" + "".join(branches) + "{{ end }}{{ end }}")
        return "".join(parts) + _literal(self.prompt)


def find_turns(template: ChatTemplate, bos: str | None) -> Turns | None:
    """Return what `template` writes around messages; None where it is not of this form.

    `bos` is the start token that llama.cpp sets before a text, None when it sets none.
    """
    try:
        turns = _learn(template, bos)
        return turns if turns is not None and all(_agrees(turns, template, case) for case in _cases(turns)) else None
    except TemplateError:
        return None


def _learn(template: ChatTemplate, bos: str | None) -> Turns | None:
    user, answer = Message(role="user", content=_MARK), Message(role="assistant", content=_MARK)
    asked = template.render([user], add_generation_prompt=True)
    alone = template.render([user], add_generation_prompt=False)
    twice = template.render([user, answer, user], add_generation_prompt=False)
    pieces = twice.split(_MARK)
    if len(pieces) != 4 or not asked.startswith(alone) or alone.count(_MARK) != 1:
        return None
    prompt = asked[len(alone) :]
    head, tail = alone.split(_MARK)
    # pieces: head | tail + before the answer | after the answer + before the user | tail
    if pieces[0] != head or pieces[3] != tail or not pieces[1].startswith(tail):
        return None
    answer_before = pieces[1][len(tail) :]
    start = bos if bos and head.startswith(bos) else ""
    rest = head[len(start) :]
    # Where the default opening ends and the question's own text begins: best where answers then end like questions.
    cuts = [cut for cut in range(len(rest) + 1) if pieces[2].endswith(rest[cut:])]
    cut = min(cuts, key=lambda cut: (pieces[2].removesuffix(rest[cut:]) != tail, cut))
    answer_after = pieces[2].removesuffix(rest[cut:])
    around = {"user": (rest[cut:], tail), "assistant": (answer_before, answer_after)}
    return _with_system(template, Turns(rest[:cut], start, around, prompt))


def _with_system(template: ChatTemplate, turns: Turns) -> Turns:
    """Add what stands around a system message; leave it out where the template has no such role."""
    spoken = [Message(role="system", content=_MARK), Message(role="user", content="q")]
    try:
        text = template.render(spoken, add_generation_prompt=False)
    except TemplateError:
        return turns
    ending = "".join((turns.around["user"][0], "q", turns.around["user"][1]))
    if text.count(_MARK) != 1 or not text.endswith(ending) or not text.startswith(turns.start):
        return turns
    before, after = text[len(turns.start) : len(text) - len(ending)].split(_MARK)
    return Turns(turns.opening, turns.start, {"system": (before, after), **turns.around}, turns.prompt)


def _cases(turns: Turns) -> list[list[Message]]:
    """Return conversations that were not used to learn."""
    first, second = Message(role="user", content="Où est le café ?"), Message(role="user", content="two\nlines")
    answer = Message(role="assistant", content="Là-bas : {x}.")
    cases = [[first], [first, answer, second], [first, answer, second, answer, first]]
    if "system" in turns.around:
        system = Message(role="system", content="Be brief.")
        cases += [[system, first], [system, first, answer, second]]
    return cases


def _agrees(turns: Turns, template: ChatTemplate, case: list[Message]) -> bool:
    return turns.render(case) == template.render(case, add_generation_prompt=True)


def _literal(text: str) -> str:
    """Return `text` as an action of a Go template, so that braces and line breaks stay as they are."""
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}" if text else ""
