"""One record of the file as a training example, or the reasons why it cannot be one."""

import json
from collections.abc import Mapping as Values
from contextlib import suppress

from app.contracts.dataset import Example, Mapping, Message, Problem, Role
from app.datasets.detecting import parse_turns, read_judgement
from app.datasets.rows import RawRow

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "utilisateur": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
}
"""Names of the speakers in the data sets of the field (OpenAI, ShareGPT, LLaMA-Factory), without case."""


class _Unusable(Exception):
    """The record has this problem."""

    def __init__(self, key: str, column: str | None, **params: object) -> None:
        super().__init__(key)
        self.key, self.column, self.params = key, column, params

    def problem(self, row: int) -> Problem:
        """Return it with its row."""
        return Problem(row=row, column=self.column, key=self.key, params=self.params)


def make_examples(raw: RawRow, mapping: Mapping) -> tuple[list[Example], list[Problem]]:
    """Return the examples of a record (one, except for nested instances), and what is wrong with it in row and column."""
    if raw.problems:
        return [], raw.problems
    if mapping.shape == "instances":
        return _instances(raw, mapping)
    try:
        return [_example(raw, mapping)], []
    except _Unusable as found:
        return [], [found.problem(raw.row)]


def _instances(raw: RawRow, mapping: Mapping) -> tuple[list[Example], list[Problem]]:
    """One instruction with a list of inputs and outputs (Self-Instruct): an example each."""
    instances = parse_turns(raw.values.get(mapping.instances or ""))
    examples: list[Example] = []
    problems: list[Problem] = []
    if not isinstance(instances, list) or not instances:
        return [], [_Unusable("wrong_type", mapping.instances, kind=_kind(instances)).problem(raw.row)]
    inner = mapping.model_copy(update={"input": "input", "output": "output", "instances": None, "shape": "alpaca"})
    for instance in instances:
        values = instance if isinstance(instance, dict) else {}
        try:
            question = {mapping.instruction or "": raw.values.get(mapping.instruction or "")}
            examples.append(_example(RawRow(raw.row, {**values, **question}), inner))
        except _Unusable as found:
            problems.append(found.problem(raw.row))
    return examples, problems


def _example(raw: RawRow, mapping: Mapping) -> Example:
    if mapping.shape == "text":
        text = _text(raw.values, mapping.text)
        if not text.strip():
            raise _Unusable("empty_text", mapping.text)
        return Example(row=raw.row, text=text)
    if mapping.shape == "preference":
        preferred, rejected = _preference(raw.values, mapping)
        return Example(row=raw.row, messages=preferred, rejected=rejected)
    if mapping.shape == "classification":
        return Example(row=raw.row, messages=_pair(raw.values, mapping, mapping.label))
    messages = _conversation(raw.values, mapping) if mapping.messages else _pair(raw.values, mapping, mapping.output)
    if mapping.shape != "unpaired":
        return Example(row=raw.row, messages=messages)
    desirable = read_judgement(raw.values.get(mapping.label or ""))
    if desirable is None:
        raise _Unusable("bad_judgement", mapping.label)
    return Example(row=raw.row, messages=_ending_in_answer(messages, mapping.messages), desirable=desirable)


def _pair(values: Values[str, object], mapping: Mapping, answer_column: str | None) -> list[Message]:
    """The question, then the answer; system text and earlier turns before them."""
    question = _question(values, mapping)
    answer = _tidy(_text(values, answer_column))
    if not answer:
        raise _Unusable("empty_answer", answer_column)
    messages = _system(values, mapping)
    for pair in _history(values, mapping.history):
        messages += pair
    return [*messages, Message(role="user", content=question), Message(role="assistant", content=answer)]


def _preference(values: Values[str, object], mapping: Mapping) -> tuple[list[Message], list[Message]]:
    """Return the conversation with the preferred answer and that with the other one.

    An answer is a text, a turn, or a list of turns; a list that begins before the answer holds the whole conversation.
    """
    answers: list[list[Message]] = []
    for column in (mapping.output, mapping.rejected):
        value = parse_turns(values.get(column or ""))
        if isinstance(value, dict | list):
            turns = _turns(value if isinstance(value, list) else [value], column)
        elif answer := _tidy(_text(values, column)):
            turns = [Message(role="assistant", content=answer)]
        else:
            raise _Unusable("empty_answer", column)
        answers.append(_ending_in_answer(turns, column))
    if answers[0] == answers[1]:
        raise _Unusable("same_answers", mapping.rejected)
    if all(turns[0].role == "assistant" for turns in answers):
        prompt = _prompt(values, mapping)
        answers = [prompt + turns for turns in answers]
    system = _system(values, mapping)
    if system and not any(turns[0].role == "system" for turns in answers):
        answers = [system + turns for turns in answers]
    return answers[0], answers[1]


def _prompt(values: Values[str, object], mapping: Mapping) -> list[Message]:
    """Return what both answers answer: a text, or a list of turns."""
    column = mapping.messages or mapping.instruction
    value = parse_turns(values.get(column or ""))
    if isinstance(value, list) and value:
        return _turns(value, column)
    return [Message(role="user", content=_question(values, mapping))]


def _ending_in_answer(turns: list[Message], column: str | None) -> list[Message]:
    """Return the turns up to the last answer; what follows it is not judged."""
    last = max((number for number, turn in enumerate(turns) if turn.role == "assistant"), default=None)
    if last is None:
        raise _Unusable("no_assistant_turn", column)
    return turns[: last + 1]


def _question(values: Values[str, object], mapping: Mapping) -> str:
    """Return the instruction with its input below."""
    question = "\n\n".join(part for column in (mapping.instruction, mapping.input) if (part := _tidy(_text(values, column))))
    if not question:
        raise _Unusable("empty_prompt", mapping.instruction)
    return question


def _system(values: Values[str, object], mapping: Mapping) -> list[Message]:
    text = _tidy(_text(values, mapping.system))
    return [Message(role="system", content=text)] if text else []


def _history(values: Values[str, object], column: str | None) -> list[list[Message]]:
    turns = parse_turns(values.get(column)) if column else None
    if turns in (None, "", []):
        return []
    pairs: list[list[Message]] = []
    for pair in turns if isinstance(turns, list) else [None]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) and text.strip() for text in pair)):
            raise _Unusable("bad_history", column)
        question, answer = (_checked(text, column) for text in pair)
        pairs.append([Message(role="user", content=question), Message(role="assistant", content=answer)])
    return pairs


def _conversation(values: Values[str, object], mapping: Mapping) -> list[Message]:
    column = mapping.messages
    turns = parse_turns(values.get(column or ""))
    if turns in (None, "", []):
        raise _Unusable("empty_conversation", column)
    if not isinstance(turns, list):
        raise _Unusable("wrong_type", column, kind=_kind(turns))
    messages = _turns(turns, column)
    if not any(message.role == "assistant" for message in messages):
        raise _Unusable("no_assistant_turn", column)
    if mapping.system and not any(message.role == "system" for message in messages):
        messages = [*_system(values, mapping), *messages]
    return messages


def _turns(turns: list[object], column: str | None) -> list[Message]:
    """Return turns in any of the field's spellings as messages."""
    messages: list[Message] = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            raise _Unusable("bad_turn", column, turn=number)
        if "human" in turn and "assistant" in turn:
            messages.append(_message("user", turn["human"], column, number))
            messages.append(_message("assistant", turn["assistant"], column, number))
            continue
        speaker = turn.get("role", turn.get("from"))
        role = ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
        if role is None:
            raise _Unusable("unknown_role", column, turn=number, role=str(speaker)[:40])
        content = turn.get("content", turn.get("value"))
        if turn.get("tool_calls"):
            content = _with_tool_calls(content, turn["tool_calls"], column, number)
        thought = turn.get("reasoning_content") or turn.get("thinking")
        if role == "assistant" and isinstance(thought, str) and thought.strip() and isinstance(content, str):
            content = f"<think>\n{thought.strip()}\n</think>\n\n{content}"
        if role == "system" and content in (None, ""):
            continue
        messages.append(_message(role, content, column, number))
    return messages


def _message(role: Role, content: object, column: str | None, number: int) -> Message:
    if isinstance(content, list):
        content = _joined_parts(content, column, number)
    if content is None or (isinstance(content, str) and not content.strip()):
        raise _Unusable("empty_turn", column, turn=number)
    if not isinstance(content, str):
        raise _Unusable("bad_turn", column, turn=number)
    return Message(role=role, content=_checked(content, column))


def _with_tool_calls(content: object, calls: object, column: str | None, number: int) -> object:
    """Write OpenAI's tool calls behind the text, in the tags of Hermes and Qwen: a model learns text."""
    lines = [content] if isinstance(content, str) and content.strip() else []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _Unusable("tool_calls", column, turn=number)
        given = function.get("arguments", {})
        with suppress(ValueError, RecursionError):  # a text that is no JSON is written as it is
            given = json.loads(given) if isinstance(given, str) and given.strip() else given
        written = json.dumps({"name": function["name"], "arguments": given}, ensure_ascii=False)
        lines.append(f"<tool_call>\n{written}\n</tool_call>")
    return "\n".join(lines)


def _joined_parts(parts: list[object], column: str | None, number: int) -> str:
    """A list of content parts: texts and reasoning; anything else (images, ...) cannot be learned here."""
    texts: list[str] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            text: object = part
        elif isinstance(part, dict) and kind in ("text", "input_text", "output_text"):
            text = part.get("text", part.get("value", part.get("content")))
        elif isinstance(part, dict) and kind in ("reasoning", "thinking"):
            thought = part.get("text", part.get("thinking", part.get("content", part.get("value"))))
            text = f"<think>\n{thought.strip()}\n</think>\n" if isinstance(thought, str) else None
        else:
            text = None
        if not isinstance(text, str):
            raise _Unusable("not_text_part", column, turn=number)
        texts.append(text)
    return "\n".join(texts)


def _text(values: Values[str, object], column: str | None) -> str:
    """Return a value as text: numbers as they are written, nothing for null and for a missing key."""
    value = values.get(column) if column is not None else None
    if value is None:
        return ""
    if isinstance(value, str):
        return _checked(value, column)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise _Unusable("wrong_type", column, kind=_kind(value))


def _checked(text: str, column: str | None) -> str:
    """Unify line breaks; refuse half surrogate pairs (`\\ud800` in JSON), which no encoding can write."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _Unusable("bad_character", column) from error
    return text


def _tidy(text: str) -> str:
    """Drop white space around a cell, but keep the indentation of the first line of several (code)."""
    stripped = text.strip()
    return stripped if "\n" not in stripped else text.strip("\n").rstrip()


def _kind(value: object) -> str:
    kinds = {bool: "boolean", list: "list", dict: "object", str: "text"}
    return kinds.get(type(value), "number")
