"""A list of turns in any of the field's spellings as messages."""

import json
import re
from contextlib import suppress
from typing import Literal

from app.contracts.dataset import PlainMessage, Role
from app.datasets.cells import Unusable, check_text

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "système": "system",
    "systeme": "system",
    "user": "user",
    "human": "user",
    "utilisateur": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
"""Names of the speakers in the data sets of the field (OpenAI, ShareGPT, LLaMA-Factory, Cohere, Llama 3), without case."""
CONTENT_NAMES = ("content", "value", "parts", "text")
"""What the field calls that which a speaker says."""
PAIRED_NAMES = (("human", "assistant"), ("input", "output"))
"""A question and its answer in one turn (Firefly; XTuner, which puts the system's text beside the first)."""

_TRANSCRIPT = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ ]?")
"""Who speaks in the transcripts of Anthropic's HH-RLHF (2022)."""

OPEN_END = "Assistant:"
"""With it a transcript ends that is a prompt."""
THOUGHT_NAMES = ("reasoning_content", "reasoning", "thinking")
"""What stands before an answer in its own turn (DeepSeek, OpenRouter, gpt-oss)."""

WEIGHT_NAMES = ("weight", "train", "training", "loss")
"""What OpenAI and the trainers of the field call the mark of an answer that is or is not to be learned."""


def read_turns(turns: list[object], column: str | None) -> list[PlainMessage]:
    """Return turns in any of the field's spellings as messages."""
    messages: list[PlainMessage] = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            raise Unusable("bad_turn", column, turn=number)
        if turn.keys().isdisjoint(("role", "from")) and (
            pair := next((pair for pair in PAIRED_NAMES if turn.keys() >= set(pair)), None)
        ):
            if turn.get("system"):
                messages.append(_message("system", turn["system"], column, number))
            messages.append(_message("user", turn[pair[0]], column, number))
            messages.append(_message("assistant", turn[pair[1]], column, number))
            continue
        speaker = turn.get("role", turn.get("from"))
        if speaker is None:
            raise Unusable("bad_turn", column, turn=number)
        role = ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
        if role is None:
            raise Unusable("unknown_role", column, turn=number, role=str(speaker)[:40])
        content = next((turn[name] for name in CONTENT_NAMES if name in turn), None)
        if calls := turn.get("tool_calls") or turn.get("function_call"):
            content = _with_tool_calls(content, calls, column, number)
        thought = next((turn[name] for name in THOUGHT_NAMES if turn.get(name)), None)
        if role == "assistant" and isinstance(thought, str) and thought.strip() and isinstance(content, str):
            content = f"<think>\n{thought.strip()}\n</think>\n\n{content}"
        if role == "system" and content in (None, ""):
            continue
        message = _message(role, content, column, number)
        if role == "assistant" and (weight := _weight(turn, column, number)) is not None:
            message["weight"] = weight
        messages.append(message)
    return messages


def split_transcript(text: str, column: str | None) -> list[PlainMessage] | None:
    """Return the turns of `\\n\\nHuman: Why?\\n\\nAssistant: So.`; None for a text that does not begin with a question.

    Raise Unusable for a turn in which nothing is said.
    """
    if not text.lstrip().startswith("Human:"):
        return None
    _, *parts = _TRANSCRIPT.split(text.strip())
    turns = enumerate(zip(parts[::2], parts[1::2], strict=True), 1)
    return [_message("user" if who == "Human" else "assistant", what.strip(), column, number) for number, (who, what) in turns]


def split_open_transcript(text: str, column: str | None) -> list[PlainMessage] | None:
    """Return the turns of a transcript that stops where the assistant is to answer; None for any other text."""
    asked = text.rstrip().removesuffix(OPEN_END)
    return split_transcript(asked, column) if asked != text.rstrip() else None


def _weight(turn: dict[str, object], column: str | None, number: int) -> Literal[0, 1] | None:
    """Return whether an answer is trained, where the turn says so: a true, false, 0 or 1 under any of WEIGHT_NAMES."""
    given = next((value for name in WEIGHT_NAMES if (value := turn.get(name)) is not None), None)
    if given is None:
        return None
    if given not in (0, 1):
        raise Unusable("bad_weight", column, turn=number, weight=str(given)[:40])
    return 1 if given else 0


def _message(role: Role, content: object, column: str | None, number: int) -> PlainMessage:
    if isinstance(content, list):
        content = join_parts(content, column, number)
    if content is None or (isinstance(content, str) and not content.strip()):
        raise Unusable("empty_turn", column, turn=number)
    if not isinstance(content, str):
        raise Unusable("bad_turn", column, turn=number)
    return {"role": role, "content": check_text(content, column)}


def _with_tool_calls(content: object, calls: object, column: str | None, number: int) -> object:
    """Write OpenAI's tool calls behind the text, in the tags of Hermes and Qwen: a model learns text."""
    lines = [content] if isinstance(content, str) and content.strip() else []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Unusable("tool_calls", column, turn=number)
        given = function.get("arguments", {})
        with suppress(ValueError, RecursionError):  # a text that is no JSON is written as it is
            given = json.loads(given) if isinstance(given, str) and given.strip() else given
        written = json.dumps({"name": function["name"], "arguments": given}, ensure_ascii=False)
        lines.append(f"<tool_call>\n{written}\n</tool_call>")
    return "\n".join(lines)


def join_parts(parts: list[object], column: str | None, number: int) -> str:
    """A list of content parts: texts and reasoning; anything else (images, ...) cannot be learned here."""
    texts: list[str] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            text: object = part
        elif isinstance(part, dict) and (kind in ("text", "input_text", "output_text") or part.keys() == {"text"}):
            text = part.get("text", part.get("value", part.get("content")))
        elif isinstance(part, dict) and kind in ("reasoning", "thinking"):
            thought = part.get("text", part.get("thinking", part.get("content", part.get("value"))))
            text = f"<think>\n{thought.strip()}\n</think>\n" if isinstance(thought, str) else None
        else:
            text = None
        if not isinstance(text, str):
            raise Unusable("not_text_part", column, turn=number)
        texts.append(text)
    return "\n".join(texts)
