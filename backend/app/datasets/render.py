"""Examples as token ids: the one module that renders and tokenises for training, chat, view and export.

A conversation becomes a list of pieces: prompt, answer, prompt, answer, ... Each piece is the text that the model's
chat template adds at that point (rendering of `messages[:i]` with the generation prompt, then of `messages[:i + 1]`),
and each piece is tokenised by itself. So the ids of a prompt in chat are exactly those that preceded the answer in
training, and the mask follows from the boundaries of the messages: nothing is searched for in the text.

Where a template rewrites what it wrote before, the pieces do not join. Then, in this order:
1. `last_turn`: one prompt piece and the last answer only (templates that drop the reasoning of earlier turns);
2. `constructed`: one prompt piece, then the answer as written in the data, then the template's end-of-turn token
   (templates whose generation prompt says more than their rendering of the same answer).

Text such as `<|im_end|>` inside a message stays text: a message cannot end its own turn. This does not hold for
`Example.text`, which is taken as written (documents may carry their separators), and not for markers that are no
special tokens in the model's tokenizer (`[INST]` in Llama 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from jinja2 import TemplateError

from app.contracts.dataset import Example, Fallback, Message
from app.core.errors import DatasetInvalid, Invalid, ModelUnavailable
from app.datasets.pieces import Encoding, PieceTokenizer, Run
from app.datasets.template import PLAIN_TEMPLATE, ChatTemplate, one_line
from app.datasets.tokenizer_files import TokenizerFiles, load_tokenizer_files


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the rendered conversation."""

    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of one row, cut at `max_length`; `trained[i]` says whether token i is learned (its loss counts)."""

    ids: list[int]
    trained: list[bool]
    full_length: int
    """Number of tokens before the cut."""
    fallback: Fallback = "none"
    answers: int = 1
    """Stretches of the row that are to be learned, each to be closed by a token at which an answer is over."""


_ANY_LENGTH = 1 << 30
"""Tokens at which nothing is cut."""


class Renderer:
    """Renders and tokenises for one model. Not safe to share between threads."""

    def __init__(self, files: TokenizerFiles) -> None:
        self._files = files
        self.folder = files.folder
        """Where tokenizer and template were read."""
        self._tokenizer = files.tokenizer
        self.template_name: Literal["chat", "plain"] = "plain" if files.chat_template is None else "chat"
        """`plain` when the model has no chat template and PLAIN_TEMPLATE is used."""
        self._template = ChatTemplate(files.chat_template or PLAIN_TEMPLATE, files.special_tokens)
        self._piece_tokenizer = PieceTokenizer(files.tokenizer, files.special_tokens["eos_token"])
        self._special_ids = self._piece_tokenizer.special_ids | files.stop_ids
        self._text_start = self._ids_before_text()
        self._learn_template()
        self.pad_id = files.pad_id
        self.bos_id = files.bos_id
        self.stop_ids = files.stop_ids | {self._end_of_turn_id}
        """Tokens at which an answer is over."""
        self._check_masks()

    @classmethod
    def load(cls, model_path: Path) -> "Renderer":
        """Read tokenizer and template from a model folder.

        Raise ModelUnavailable (`tokenizer_missing`, `tokenizer_broken`, `template_broken`, `masks_broken`,
        `no_end_token`).
        """
        return cls(load_tokenizer_files(model_path))

    def encode(self, example: Example, max_length: int) -> EncodedExample:
        """Return the row's ids with the answers marked as trained.

        Raise DatasetInvalid (`not_renderable`) when the model's template cannot write this conversation.
        """
        (encoded,) = self.encode_all([example], max_length)
        if isinstance(encoded, DatasetInvalid):
            raise encoded
        return encoded

    def encode_all(self, examples: Sequence[Example], max_length: int) -> list[EncodedExample | DatasetInvalid]:
        """Return what `encode` returns or raises for each of `examples`; tokenises them together, on every core."""
        encodings: dict[int, Encoding[EncodedExample]] = {}
        results: dict[int, EncodedExample | DatasetInvalid] = {}
        for place, example in enumerate(examples):
            try:
                encodings[place] = self._encode(example, max_length)
            except TemplateError as error:
                invalid = DatasetInvalid("not_renderable", row=example.row, reason=one_line(error))
                invalid.__cause__ = error
                results[place] = invalid
        results.update(zip(encodings, self._piece_tokenizer.complete(list(encodings.values())), strict=True))
        return [results[place] for place in range(len(examples))]

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids after which the model answers `messages`. Raise Invalid (`conversation`) when it cannot."""
        try:
            pieces = self._prompt_pieces(self._adapt(messages))
        except TemplateError as error:
            raise Invalid("conversation", reason=one_line(error)) from error
        ((ids, _),) = self._piece_tokenizer.complete([self._encode_pieces(pieces)])
        return ids

    def encode_text(self, text: str) -> list[int]:
        """Return the ids after which the model goes on writing `text`, which is taken as it is: no template, no end token."""
        ((start, ids),) = self._piece_tokenizer.complete([self._encode_open_text(text)])
        return [*start, *ids] or [self._files.bos_id if self._files.bos_id is not None else self._files.eos_id]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Return the text of `ids`."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special))

    def is_special(self, token: int) -> bool:
        """Return whether a token is a control token: no text, but a mark in the sequence."""
        return token in self._special_ids

    # --- rows --------------------------------------------------------------------------------------------------------

    def _encode(self, example: Example, max_length: int) -> Encoding[EncodedExample]:
        """Render the row now and return the rest of the work. Raises TemplateError."""
        if example.messages is None:
            return self._encode_text_row(example.text or "", max_length)
        pieces, fallback = self._pieces(self._adapt(example.messages))
        return self._encode_conversation(pieces, fallback, max_length)

    def _encode_conversation(self, pieces: list[Piece], fallback: Fallback, max_length: int) -> Encoding[EncodedExample]:
        ids, trained = yield from self._encode_pieces(pieces)
        answers = sum(piece.trained for piece in pieces)
        return EncodedExample(ids[:max_length], trained[:max_length], len(ids), fallback, answers)

    def _encode_text_row(self, text: str, max_length: int) -> Encoding[EncodedExample]:
        """The whole text is trained, closed by the end token; start and end tokens are not doubled."""
        ids = yield Run(text)
        start = [] if self._text_start and ids[: len(self._text_start)] == self._text_start else self._text_start
        ids = [*start, *ids]
        if not ids or ids[-1] != self._files.eos_id:
            ids.append(self._files.eos_id)
        trained = [position >= len(start) for position in range(len(ids))]
        return EncodedExample(ids[:max_length], trained[:max_length], len(ids))

    def _encode_open_text(self, text: str) -> Encoding[tuple[list[int], list[int]]]:
        ids = yield Run(text)
        return ([] if self._text_start and ids[: len(self._text_start)] == self._text_start else self._text_start), ids

    # --- conversations ---------------------------------------------------------------------------------------------

    def _pieces(self, turns: list[Message]) -> tuple[list[Piece], Fallback]:
        """Cut the conversation up to its last answer into pieces."""
        answers = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
        if not answers:
            return [Piece(self._template.render(turns, add_generation_prompt=False), False)], "none"
        turns = turns[: answers[-1] + 1]
        whole = self._template.render(turns, add_generation_prompt=False)
        if pieces := self._joined_pieces(turns, whole):
            return pieces, "none"
        context = [Piece(piece.text, False) for piece in self._prompt_pieces(turns[:-1])]
        prompt = "".join(piece.text for piece in context)
        if whole.startswith(prompt):
            return [*context, Piece(whole[len(prompt) :], _is_trained(turns[-1]))], "last_turn"
        return [*context, Piece(turns[-1].content + self._end_of_turn, _is_trained(turns[-1]))], "constructed"

    def _prompt_pieces(self, turns: list[Message]) -> list[Piece]:
        """Cut a conversation that waits for an answer; a single piece where the template rewrites earlier turns."""
        prompt = self._template.render(turns, add_generation_prompt=True)
        return self._joined_pieces(turns, prompt) or [Piece(prompt, False)]

    def _joined_pieces(self, turns: list[Message], whole: str) -> list[Piece] | None:
        """Return the pieces of `whole`, the rendering of `turns`; None where renderings do not continue each other.

        An answer before the first question (a greeting) is part of the prompt after it: nothing asks for it.
        """
        pieces: list[Piece] = []
        written = ""
        asked = False
        for index, turn in enumerate(turns):
            asked = asked or turn.role in ("user", "tool")
            if turn.role != "assistant" or not asked:
                continue
            last = index == len(turns) - 1
            prompt = self._template.render(turns[:index], add_generation_prompt=True)
            closed = whole if last else self._template.render(turns[: index + 1], add_generation_prompt=False)
            if not (prompt.startswith(written) and closed.startswith(prompt)):
                return None
            pieces += [Piece(prompt[len(written) :], False), Piece(closed[len(prompt) :], _is_trained(turn))]
            written = closed
        if not whole.startswith(written):
            return None
        if len(whole) > len(written):
            pieces.append(Piece(whole[len(written) :], False))
        return pieces

    def _encode_pieces(self, pieces: list[Piece]) -> Encoding[tuple[list[int], list[bool]]]:
        """Tokenise piece by piece. In an answer, what follows the end-of-turn token (a line break) is not trained."""
        ids = list(self._text_start) if self.template_name == "plain" else []
        trained = [False] * len(ids)
        for index, piece in enumerate(pieces):
            part = yield from self._piece_tokenizer.encode(piece.text, ids[-1] if index else None)
            learned = len(part) if piece.trained else 0
            if piece.trained:
                places = range(len(part) - 1, -1, -1) if self._ends_turns else ()
                end = next((at for at in places if part[at] in self._special_ids), None)
                if end is not None:
                    learned = end + 1
                elif index == len(pieces) - 1:
                    # A template that closes answers with no token at all: without one the model never stops.
                    part.append(self._files.eos_id)
                    learned += 1
            ids += part
            trained += [True] * learned + [False] * (len(part) - learned)
        return ids, trained

    # --- what this template can write ------------------------------------------------------------------------------

    def _learn_template(self) -> None:
        """Try the template on small conversations. Raise ModelUnavailable when it cannot write even one answer."""
        question, answer = Message(role="user", content="q0"), Message(role="assistant", content="a0")
        try:
            prompt = self._template.render([question], add_generation_prompt=True)
            whole = self._template.render([question, answer], add_generation_prompt=False)
        except TemplateError as error:
            raise ModelUnavailable("template_broken", reason=one_line(error)) from error
        if "q0" not in prompt or "a0" not in whole:
            raise ModelUnavailable("template_broken", reason="it leaves messages out")
        closing = whole[len(prompt) :] if whole.startswith(prompt) else whole
        (closing_ids,) = self._piece_tokenizer.complete([self._piece_tokenizer.encode(closing, None)])
        ends = [place for place, token in enumerate(closing_ids) if token in self._special_ids]
        # A control token before the answer opens it and does not end it.
        self._ends_turns = bool(ends) and "a0" not in self.decode(closing_ids[ends[-1] + 1 :])
        self._end_of_turn_id = closing_ids[ends[-1]] if self._ends_turns else self._files.eos_id
        self._end_of_turn = self._tokenizer.id_to_token(self._end_of_turn_id) or ""
        system = Message(role="system", content="s0")
        self._folds_system = "s0" not in self._try([system, question, answer])
        self._tool_speaks_as_user = "t0" not in self._try([question, answer, Message(role="tool", content="t0"), answer])
        self._joins_turns = "q1" not in self._try([question, Message(role="user", content="q1"), answer])

    def _check_masks(self) -> None:
        """Raise ModelUnavailable (`masks_broken`) unless an answer and its end are trained, and nothing of the question."""
        question, answer = Message(role="user", content="q0"), Message(role="assistant", content="a0")
        encoded = self.encode(Example(row=0, messages=[question, answer]), _ANY_LENGTH)
        learned = [token for token, trained in zip(encoded.ids, encoded.trained, strict=True) if trained]
        text = self.decode(learned)
        if not learned or learned[-1] not in self.stop_ids or "a0" not in text or "q0" in text:
            raise ModelUnavailable("masks_broken")

    def _try(self, turns: list[Message]) -> str:
        try:
            return self._template.render(turns, add_generation_prompt=False)
        except TemplateError:
            return ""

    def _fenced(self, message: Message) -> Message:
        content = self._piece_tokenizer.fence(message.content)
        return message if content == message.content else message.model_copy(update={"content": content})

    def _ids_before_text(self) -> list[int]:
        """Return what the tokenizer sets before a text (BOS, or nothing); `add_bos_token` in the files decides."""
        if self._files.add_bos is not None:
            return [self._files.bos_id] if self._files.add_bos and self._files.bos_id is not None else []
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        full: list[int] = self._tokenizer.encode("a", add_special_tokens=True).ids
        return next((full[:start] for start in range(len(full)) if full[start : start + len(bare)] == bare), [])

    def _adapt(self, messages: Sequence[Message]) -> list[Message]:
        """Bring messages into the form that this template can write, and fence control tokens inside them.

        Where the template has no system role, the system text opens the first user message; where it has no tool
        role, a tool's result speaks as the user; where turns must alternate, neighbours of one role are joined.
        """
        turns = [self._fenced(message) for message in messages]
        if self._tool_speaks_as_user:
            turns = [turn.model_copy(update={"role": "user"}) if turn.role == "tool" else turn for turn in turns]
        if self._folds_system:
            turns = _fold_system(turns)
        if self._joins_turns:
            groups = [list(group) for _, group in groupby(turns, key=lambda turn: turn.role)]
            turns = [group[0].model_copy(update={"content": _join(group), "weight": _weight(group)}) for group in groups]
        return turns


def _is_trained(turn: Message) -> bool:
    return turn.weight != 0


def _weight(turns: list[Message]) -> Literal[0, 1] | None:
    """Return the weight of joined turns: nothing is trained that was asked to be only read."""
    return 0 if any(turn.weight == 0 for turn in turns) else turns[0].weight


def _join(turns: list[Message]) -> str:
    return "\n\n".join(turn.content for turn in turns)


def _fold_system(turns: list[Message]) -> list[Message]:
    system = [turn for turn in turns if turn.role == "system"]
    others = [turn for turn in turns if turn.role != "system"]
    if not system:
        return turns
    first = next((index for index, turn in enumerate(others) if turn.role == "user"), None)
    if first is None:
        return [Message(role="user", content=_join(system)), *others]
    others[first] = others[first].model_copy(update={"content": _join([*system, others[first]])})
    return others
