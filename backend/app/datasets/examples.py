"""One record of the file as a training example, or the reasons why it cannot be one."""

from collections.abc import Mapping as Values
from collections.abc import Sequence
from itertools import takewhile

from app.contracts.dataset import Mapping, PlainExample, PlainMessage, Problem
from app.datasets.cells import Unusable, check_text, kind_of, make_writable, read_text, read_tidy, tidy
from app.datasets.detecting import ACCEPTED, parse_turns, read_judgement, read_verdict
from app.datasets.rows import RawRow
from app.datasets.turns import join_parts, read_turns, split_open_transcript, split_transcript


def make_examples(raw: RawRow, mapping: Mapping) -> tuple[list[PlainExample], Sequence[Problem]]:
    """Return the examples of a record (one, except for nested instances), and what is wrong with it in row and column."""
    if raw.problems:
        return [], raw.problems
    if mapping.verdict and (verdict := read_verdict(raw.values.get(mapping.verdict))) != ACCEPTED:
        params = {"verdict": make_writable(verdict)[:40]}
        return [], [Problem(row=raw.row, column=mapping.verdict, key="not_accepted", params=params)]
    if mapping.shape == "instances":
        return _instances(raw, mapping)
    try:
        return [_example(raw, mapping)], []
    except Unusable as found:
        return [], [found.problem(raw.row)]


def _instances(raw: RawRow, mapping: Mapping) -> tuple[list[PlainExample], list[Problem]]:
    """One instruction with a list of inputs and outputs (Self-Instruct): an example each."""
    instances = parse_turns(raw.values.get(mapping.instances or ""))
    examples: list[PlainExample] = []
    problems: list[Problem] = []
    if not isinstance(instances, list) or not instances:
        return [], [Unusable("wrong_type", mapping.instances, kind=kind_of(instances)).problem(raw.row)]
    inner = mapping.model_copy(update={"input": "input", "output": "output", "instances": None, "shape": "alpaca"})
    for instance in instances:
        values = instance if isinstance(instance, dict) else {}
        try:
            question = {mapping.instruction or "": raw.values.get(mapping.instruction or "")}
            examples.append(_example(RawRow(raw.row, {**values, **question}), inner))
        except Unusable as found:
            problems.append(found.problem(raw.row))
    return examples, problems


def _example(raw: RawRow, mapping: Mapping) -> PlainExample:
    if mapping.shape == "text":
        text = read_text(raw.values, mapping.text)
        if not text.strip():
            raise Unusable("empty_text", mapping.text)
        return PlainExample(row=raw.row, text=text)
    if mapping.shape == "preference":
        preferred, rejected = _preference(raw.values, mapping)
        return PlainExample(row=raw.row, messages=preferred, rejected=rejected)
    if mapping.shape == "classification":
        values, label = raw.values, raw.values.get(mapping.label or "")
        if isinstance(label, bool):
            values = {**values, mapping.label or "": "true" if label else "false"}
        return PlainExample(row=raw.row, messages=_pair(values, mapping, mapping.label))
    messages = _conversation(raw.values, mapping) if mapping.messages else _pair(raw.values, mapping, mapping.output)
    if mapping.shape != "unpaired":
        return PlainExample(row=raw.row, messages=messages)
    desirable = read_judgement(raw.values.get(mapping.label or ""))
    if desirable is None:
        raise Unusable("bad_judgement", mapping.label)
    return PlainExample(row=raw.row, messages=_ending_in_answer(messages, mapping.messages), desirable=desirable)


def _pair(values: Values[str, object], mapping: Mapping, answer_column: str | None) -> list[PlainMessage]:
    """The question, then the answer; system text and earlier turns before them. Either may be a list of turns."""
    asked, answer = values.get(mapping.instruction or ""), values.get(answer_column or "")
    turns = _find_turns(asked)
    question = read_turns(turns, mapping.instruction) if turns else [_question(values, mapping)]
    if turns := _find_turns(answer):
        answered = read_turns(turns, answer_column)
    elif text := read_tidy(values, answer_column):
        answered = [{"role": "assistant", "content": text}]
    else:
        raise Unusable("empty_answer", answer_column)
    messages = _history(values, mapping.history) if mapping.history else []
    if mapping.system and not any(message["role"] == "system" for message in messages):
        messages = [*_system(values, mapping), *messages]
    messages += question
    messages += _ending_in_answer(answered, answer_column)
    return messages


def _preference(values: Values[str, object], mapping: Mapping) -> tuple[list[PlainMessage], list[PlainMessage]]:
    """Return the conversation with the preferred answer and that with the other one.

    An answer is a text, a turn, or a list of turns; a list that begins before the answer holds the whole conversation.
    """
    answers: list[list[PlainMessage]] = []
    for column in (mapping.output, mapping.rejected):
        value = parse_turns(values.get(column or ""))
        if isinstance(value, dict | list):
            turns = read_turns(value if isinstance(value, list) else [value], column)
        elif answer := read_tidy(values, column):
            alone = mapping.instruction is None and mapping.messages is None
            turns = (split_transcript(answer, column) if alone else None) or [{"role": "assistant", "content": answer}]
        else:
            raise Unusable("empty_answer", column)
        answers.append(_ending_in_answer(turns, column))
    wholes = [turns for turns in answers if turns[0]["role"] != "assistant"]
    if len(wholes) == 1:  # the other is its last answer
        answers = [turns if turns is wholes[0] else wholes[0][:-1] + turns for turns in answers]
    if answers[0] == answers[1]:
        raise Unusable("same_answers", mapping.rejected)
    if len(wholes) == 2 and _opening(wholes[0]) != _opening(wholes[1]):
        raise Unusable("different_prompts", mapping.rejected)
    if not wholes:
        prompt = _prompt(values, mapping)
        answers = [prompt + turns for turns in answers]
    system = _system(values, mapping)
    if system and not any(turns[0]["role"] == "system" for turns in answers):
        answers = [system + turns for turns in answers]
    return answers[0], answers[1]


def _opening(turns: list[PlainMessage]) -> list[PlainMessage]:
    """Return the turns before the first answer."""
    return list(takewhile(lambda turn: turn["role"] != "assistant", turns))


def _prompt(values: Values[str, object], mapping: Mapping) -> list[PlainMessage]:
    """Return what both answers answer: a text, a list of turns, or an object that holds one as `messages` (OpenAI)."""
    column = mapping.messages or mapping.instruction
    value = parse_turns(values.get(column or ""))
    if isinstance(value, dict):
        value = value.get("messages")
    if isinstance(value, list) and value:
        return read_turns(value, column)
    if isinstance(value, str) and not mapping.input and (turns := split_open_transcript(value, column)):
        return turns
    return [_question(values, mapping)]


def _find_turns(value: object) -> list[object]:
    """Return a turn, or a list of turns, that stands where a text could; nothing for a text and for anything else."""
    turns = value if isinstance(value, list) else [value]
    first = turns[0] if turns else None
    return turns if isinstance(first, dict) and ("role" in first or "from" in first) else []


def _ending_in_answer(turns: list[PlainMessage], column: str | None) -> list[PlainMessage]:
    """Return the turns up to the last answer; what follows it is not judged."""
    last = max((number for number, turn in enumerate(turns) if turn["role"] == "assistant"), default=None)
    if last is None:
        raise Unusable("no_assistant_turn", column)
    return turns[: last + 1]


def _question(values: Values[str, object], mapping: Mapping) -> PlainMessage:
    """Return the instruction with its input below, as the user's turn."""
    question = read_tidy(values, mapping.instruction)
    if mapping.input and (context := read_tidy(values, mapping.input)):
        question = f"{question}\n\n{context}" if question else context
    if not question:
        raise Unusable("empty_prompt", mapping.instruction)
    return {"role": "user", "content": question}


def _system(values: Values[str, object], mapping: Mapping) -> list[PlainMessage]:
    value = values.get(mapping.system or "")
    parts = value.get("parts") if isinstance(value, dict) else value
    text = tidy(join_parts(parts, mapping.system, 1)) if isinstance(parts, list) else read_tidy(values, mapping.system)
    return [{"role": "system", "content": text}] if text else []


def _history(values: Values[str, object], column: str) -> list[PlainMessage]:
    """Return earlier turns, written as pairs of question and answer or as a conversation is."""
    turns = parse_turns(values.get(column))
    if turns in (None, "", []):
        return []
    if isinstance(turns, list) and isinstance(turns[0], dict):
        return read_turns(turns, column)
    messages: list[PlainMessage] = []
    for pair in turns if isinstance(turns, list) else [None]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) and text.strip() for text in pair)):
            raise Unusable("bad_history", column)
        question, answer = (check_text(text, column) for text in pair)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages


def _is_asked(messages: list[PlainMessage]) -> bool:
    """Say whether an answer follows a question or a tool's result: one before all of them is read and not learned."""
    roles = [message["role"] for message in messages]
    first = next((place for place, role in enumerate(roles) if role in ("user", "tool")), len(roles))
    return "assistant" in roles[first:]


def _conversation(values: Values[str, object], mapping: Mapping) -> list[PlainMessage]:
    column = mapping.messages
    turns = parse_turns(values.get(column or ""))
    if turns in (None, "", []):
        raise Unusable("empty_conversation", column)
    if not isinstance(turns, list):
        raise Unusable("wrong_type", column, kind=kind_of(turns))
    messages = read_turns(turns, column)
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        raise Unusable("no_assistant_turn", column)
    if not _is_asked(messages):
        raise Unusable("no_question", column)
    if all(answer.get("weight") == 0 for answer in answers):
        raise Unusable("no_weighted_turn", column)
    if mapping.system and not any(message["role"] == "system" for message in messages):
        messages = [*_system(values, mapping), *messages]
    return messages
