"""Guess which column plays which part, from the names of the columns and the first rows."""

import ast
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from app.contracts.dataset import Mapping, Shape
from app.core.errors import DatasetInvalid
from app.datasets.rows import RawRow
from app.datasets.turns import CONTENT_NAMES, PAIRED_NAMES

INSTRUCTION_NAMES = ("instruction", "instructions", "consigne", "consignes", "task", "tache")
QUESTION_NAMES = ("question", "questions", "q", "demande", "problem", "probleme")
PROMPT_NAMES = ("prompt", "prompts", "query", "user", "human", "request", "requete", "source", "invite")
ASKED_NAMES = (*INSTRUCTION_NAMES, *QUESTION_NAMES, *PROMPT_NAMES)
OUTPUT_NAMES = (
    "output",
    "outputs",
    "response",
    "responses",
    "completion",
    "completions",
    "answer",
    "answers",
    "reponse",
    "reponses",
)
LATE_OUTPUT_NAMES = ("sortie", "target", "targets", "assistant", "reply", "a", "r", "solution", "resultat")
INPUT_NAMES = ("input", "inputs", "context", "contexte", "entree", "passage")
SYSTEM_NAMES = ("system", "system_prompt", "system_instruction", "systeminstruction", "systeme", "message_systeme")
HISTORY_NAMES = ("history", "historique")
MESSAGES_NAMES = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns", "contents")
TEXT_NAMES = ("text", "texte", "content", "contenu", "document", "article", "body")
CHOSEN_NAMES = ("chosen", "preferred", "prefere", "choisi")
REJECTED_NAMES = ("rejected", "dispreferred", "rejete")
JUDGEMENT_NAMES = ("label", "kto_tag", "desirable", "thumbs_up", "is_good", "acceptable")
CLASS_NAMES = ("label", "labels", "class", "classe", "category", "categorie", "intent", "sentiment", "etiquette")
CLASSIFIED_NAMES = (*TEXT_NAMES, "sentence", "phrase", "review", "avis", "message", "comment", "commentaire", "title", "titre")
PAIR_NAMES = (
    ("response_j", "response_k"),
    ("response_chosen", "response_rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred_output", "non_preferred_output"),
)
REJECTED_ANSWER_NAMES = ("rejected_response", "rejected_messages", "rejected_answer", "rejected_output", "rejected_completion")
"""Beside a conversation or an answer: the answer that is not preferred (ms-swift)."""
SUMMARY_NAMES = ("summary", "summaries", "highlights", "resume", "abstract")
CHOICES_NAMES = ("choices", "options", "endings", "option_a", "choice_a", "opa")
"""Answers to choose from: then the answer may be a mere number or letter of one."""
"""Columns of a preferred answer and the other one; the first pair is that of Stack Exchange's paired answers, the last
OpenAI's."""
INSTANCES_NAMES = ("instances",)
SPLIT_NAMES = ("split", "subset", "partition", "set", "fold", "ensemble")
SPLITS = {
    **dict.fromkeys(("train", "training", "entrainement", "apprentissage"), False),
    **dict.fromkeys(("test", "valid", "validation", "val", "dev", "eval", "evaluation", "heldout", "held_out"), True),
}
"""What a row's own split is called, and whether its rows are held out."""
VERDICT_NAME = "answer"
ACCEPTED = "accept"
VERDICTS = (ACCEPTED, "reject", "ignore")
"""What Prodigy writes into each row as `answer`, and what an annotator can say there."""
PRODIGY_NAMES = ("_input_hash", "_task_hash")
"""What Prodigy writes beside it; without them a prompt with "accept" or "reject" is a question with its answer."""
TOOLS_NAMES = ("tools", "functions", "available_tools", "tool_definitions", "outils")
"""Where chat data describe the tools that an assistant may call."""
TREE_NAMES = ("role", "parent_id", "speaker")
"""Beside a text they say that it is one turn of a conversation whose turns are rows of their own."""
MEDIA_NAMES = ("image", "images", "audio", "audios", "video", "videos")

_KNOWN_NAMES = frozenset((
    *INSTRUCTION_NAMES, *QUESTION_NAMES, *PROMPT_NAMES, *OUTPUT_NAMES, *LATE_OUTPUT_NAMES, *INPUT_NAMES, *SYSTEM_NAMES,
    *HISTORY_NAMES, *MESSAGES_NAMES, *TEXT_NAMES, *CHOSEN_NAMES, *REJECTED_NAMES, *JUDGEMENT_NAMES, *CLASS_NAMES,
    *CLASSIFIED_NAMES, *SPLIT_NAMES,
)) - {"a", "q", "r"}  # fmt: skip
NOTHING: tuple[object, ...] = (None, "", "[]", "null", [], {})
"""What stands in a cell that says nothing."""
_LONGEST_CLASS = 60
"""Characters of the name of a class; what is longer is an answer."""
_MOST_PROPOSED_COLUMNS = 4
TEXT_COLUMN = "text"
_MEDIA_MARKS = re.compile(r"<img>[^<]+\.\w+[^<]*</img>|<(?:image|audio|video)>(?!.*</(?:image|audio|video)>)", re.DOTALL)
TEMPLATE_MARK = re.compile(r"<\|im_(?:start|end)\|>|<\|start_header_id\|>|<start_of_turn>|\[INST\]|<\|(?:user|assistant)\|>")
_WRITTEN_TURN = re.compile(r"### ?(?:Human|User|Assistant|Instruction|Response|Réponse)\b")
"""How Guanaco and Alpaca mark turns in running text."""
_LITERAL_TURN = re.compile(r"\s*\[\s*\{\s*['\"]")
_BETWEEN_TURNS = re.compile(r"\}\s*\n\s*\{")
_LONGEST_LITERAL = 1 << 17
"""Characters of a list as Python shows it: parsing takes some hundred bytes of memory for each."""
_SHORTEST_LINE = 15
"""Mean characters of the lines of a text file; lists of codes and words have fewer."""
_SHORTEST_TEXT = 40
"""Mean characters of the only column from which on it may be text to learn."""
_LONGEST_NAME = 80
"""A "name of a column" beyond this many characters is a sentence: the file has no header."""

EXPECTED = (
    "question + answer; instruction (+ input) + output; prompt + completion; messages; conversations; text; text + label; "
    "prompt + chosen + rejected"
)
"""What the refusal of an unknown table offers, in this order."""


SURE = 0.7
"""Confidence below which a mapping is only proposed."""
_BY_NAME, _BY_SHORT_NAME, _BY_CONTENT = 0.95, 0.8, 0.4
"""Confidence in names that say it all, in names with other meanings too ("a", "label", "source"), in lengths of texts."""
_SHORT_NAMES = {"a", "q", "r", "source", "target", "body", "title", "titre", "message", "solution", "resultat", "label", "class"}


class Detected(NamedTuple):
    """A mapping and how sure it is."""

    mapping: Mapping
    confidence: float = 1.0

    @property
    def sure(self) -> bool:
        """Whether it may be used without asking."""
        return self.confidence >= SURE


def detect_mapping(columns: Sequence[str], sample: Sequence[RawRow]) -> Detected:
    """Return the mapping of a file with these columns; one judged by the content alone is only a proposal.

    Raise DatasetInvalid (`media_data`, `running_text`, `one_column`, `no_answers`, `no_shape`), naming the columns.
    """
    try:
        mapping = _by_names(columns, sample)
    except DatasetInvalid as refusal:
        if refusal.key in ("dataset_invalid.no_shape", "dataset_invalid.one_column", "dataset_invalid.running_text"):
            proposal = _by_parts_of_names(columns, sample) or _by_content(columns, sample)
            if proposal is not None:
                return Detected(proposal, _BY_CONTENT)
        raise
    if mapping.shape == "text" and mapping.text is not None and not _reads_like_text(mapping.text, columns, sample):
        return Detected(mapping, _BY_CONTENT)
    if _is_doubtful(mapping, columns, sample):
        return Detected(mapping, _BY_CONTENT)
    used = {_plain(column) for part, column in mapping.model_dump(exclude_none=True).items() if part != "shape"}
    return Detected(mapping, _BY_SHORT_NAME if used & _SHORT_NAMES else _BY_NAME)


def _by_parts_of_names(columns: Sequence[str], sample: Sequence[RawRow]) -> Mapping | None:
    """Propose the only column that has the word of an answer in its name ("expected answer"), and the only one of a question."""
    names = _Names(columns)
    asked = names.find(ASKED_NAMES) or _find_word(ASKED_NAMES, columns, sample)
    answer = _find_word(OUTPUT_NAMES, columns, sample)
    if not asked or not answer or asked == answer or not _holds_text(asked, sample):
        return None
    shape: Shape = "question_answer"
    if asked in names.find_all(INSTRUCTION_NAMES):
        shape = "alpaca"
    elif asked in names.find_all(PROMPT_NAMES):
        shape = "prompt_completion"
    return Mapping(shape=shape, instruction=asked, input=names.find(INPUT_NAMES), output=answer, system=names.find(SYSTEM_NAMES))


def _find_word(wanted: Sequence[str], columns: Sequence[str], sample: Sequence[RawRow]) -> str | None:
    """Return the column of text whose name has one of these words in it, if it is the only one."""
    found = _find_words(wanted, columns, sample)
    return found[0] if len(found) == 1 else None


def _find_words(wanted: Sequence[str], columns: Sequence[str], sample: Sequence[RawRow]) -> list[str]:
    """Return the columns of text whose names have one of these words in them."""
    named = (column for column in columns if not {*_plain(column).split("_")}.isdisjoint({*wanted} - _SHORT_NAMES))
    return [column for column in named if _holds_text(column, sample)]


def _by_content(columns: Sequence[str], sample: Sequence[RawRow]) -> Mapping | None:
    """Propose what the texts look like: two columns of text are a question and its answer, one of long text is text."""
    written = [column for column in columns if _holds_words(column, sample)]
    if _Names(columns).find(CLASS_NAMES):
        return None
    asked = _Names(columns).find((*INSTRUCTION_NAMES, *QUESTION_NAMES))
    if asked and asked not in written and _holds_text(asked, sample):
        return None
    if len(written) == 2 and len(columns) <= _MOST_PROPOSED_COLUMNS:
        return Mapping(shape="question_answer", instruction=written[0], output=written[1])
    if len(written) == 1 and len(columns) == 1 and _mean_length(written[0], sample) >= _SHORTEST_TEXT:
        return Mapping(shape="text", text=written[0])
    return None


def _reads_like_text(column: str, columns: Sequence[str], sample: Sequence[RawRow]) -> bool:
    """Say whether a column called "text" is what the rows are about: long, and not surrounded by a table of other things."""
    if _Names(columns).find(TREE_NAMES):
        return False
    if len(columns) <= _MOST_PROPOSED_COLUMNS and list(columns) != [TEXT_COLUMN]:
        return True
    return _mean_length(column, sample) >= (_SHORTEST_TEXT if len(columns) > 1 else _SHORTEST_LINE)


def _is_doubtful(mapping: Mapping, columns: Sequence[str], sample: Sequence[RawRow]) -> bool:
    """Say whether the names leave a choice that a person has to make.

    Choices stand beside an answer; two columns could be the answer, or a summary could; a longer text stands beside the one that
    is classified, or any or a judgement beside running text; or the texts are conversations in the marks of a chat template.
    """
    names = _Names(columns)
    if mapping.output is not None and mapping.output == names.find(SUMMARY_NAMES):
        return True
    if mapping.shape == "text":
        label = names.find(CLASS_NAMES)
        others = (column for column in columns if column not in (mapping.text, mapping.split))
        judged = label and any(row.values.get(label) not in NOTHING for row in sample)
        if judged or any(_holds_words(column, sample) and _mean_length(column, sample) >= _SHORTEST_TEXT for column in others):
            return True
    if mapping.shape == "question_answer" and names.find(CHOICES_NAMES):
        return True
    if mapping.shape in ("question_answer", "prompt_completion") and names.find(("answer",)) and names.find(("solution",)):
        return True
    if mapping.shape == "classification" and mapping.instruction:
        others = (column for column in columns if column not in (mapping.instruction, mapping.label))
        length = _mean_length(mapping.instruction, sample)
        return any(_holds_words(column, sample) and _mean_length(column, sample) > length for column in others)
    return find_template_marks(mapping, sample) is not None


def find_template_marks(mapping: Mapping, sample: Sequence[RawRow]) -> str | None:
    """Return the first mark of a chat template in running texts, where most of them hold one."""
    if mapping.shape != "text" or mapping.text is None:
        return None
    values = (row.values.get(mapping.text) for row in sample)
    texts = [value for value in values if isinstance(value, str)]
    found = [mark[0] for text in texts if (mark := TEMPLATE_MARK.search(text) or _WRITTEN_TURN.search(text))]
    return found[0] if len(found) * 2 > len(sample) else None


def _mean_length(column: str, sample: Sequence[RawRow]) -> float:
    lengths = [len(value) for row in sample if isinstance(value := row.values.get(column), str)]
    return sum(lengths) / max(1, len(lengths))


def _refers_to_media(sample: Sequence[RawRow]) -> bool:
    """Say whether most rows hold the marks of pictures inside their text, `<img>a.png</img>` or `<image>`."""
    marked = sum(1 for row in sample if _MEDIA_MARKS.search(str(dict(row.values))))
    return bool(sample) and marked * 2 > len(sample)


def _holds_words(column: str, sample: Sequence[RawRow]) -> bool:
    """Say whether most values are texts of several words."""
    values = [row.values.get(column) for row in sample if not row.problems]
    words = sum(1 for value in values if isinstance(value, str) and len(value.split()) >= 2 and any(map(str.isalpha, value)))
    return bool(values) and words * 2 >= len(values)


def _by_names(columns: Sequence[str], sample: Sequence[RawRow]) -> Mapping:
    names = _Names(columns)
    verdict = names.find((VERDICT_NAME,))
    if verdict and _holds_verdicts(verdict, sample):
        others = [column for column in columns if column != verdict]
        try:
            return _by_names(others, sample).model_copy(update={"verdict": verdict})
        except DatasetInvalid:
            if not {*columns}.isdisjoint(PRODIGY_NAMES):
                raise
    if (media := names.find(MEDIA_NAMES)) and any(row.values.get(media) not in (None, "", []) for row in sample):
        raise DatasetInvalid("media_data", column=media)
    if _refers_to_media(sample):
        raise DatasetInvalid("media_data", column=_shortened(columns[0]))
    system = names.find(SYSTEM_NAMES)
    conversations = [
        (column, shape)
        for column in names.find_all(MESSAGES_NAMES)
        if (shape := _turns_shape(row.values.get(column) for row in sample))
    ]
    split = next((name for name in names.find_all(SPLIT_NAMES) if _holds_splits(name, sample)), None)
    mapping = _by_parts(names, columns, sample, conversations, system)
    return mapping.model_copy(update={"split": split}) if split else mapping


def _by_parts(  # noqa: PLR0911, PLR0912 - one shape after another, the most telling names first
    names: "_Names", columns: Sequence[str], sample: Sequence[RawRow], conversations: list[tuple[str, Shape]], system: str | None
) -> Mapping:
    if pairs := _find_pairs(names, conversations[0][0] if conversations else None):
        return pairs
    if pairs := _find_rejected(names, conversations[0][0] if conversations else None):
        return pairs
    judgement = next((name for name in names.find_all(JUDGEMENT_NAMES) if _holds_judgements(name, sample)), None)
    if conversations:
        column, shape = conversations[0]
        return Mapping(shape="unpaired" if judgement else shape, messages=column, label=judgement, system=system)
    instances = names.find(INSTANCES_NAMES)
    asked = names.find(ASKED_NAMES)
    if instances and asked and any(_are_instances(row.values.get(instances)) for row in sample):
        return Mapping(shape="instances", instruction=asked, instances=instances, system=system)
    history = names.find(HISTORY_NAMES)
    output = names.find(OUTPUT_NAMES) or names.find(LATE_OUTPUT_NAMES)
    if output:
        _refuse_answer_lists(output, sample)
        context = names.find(INPUT_NAMES)
        shapes: tuple[tuple[Shape, tuple[str, ...]], ...] = (
            ("alpaca", INSTRUCTION_NAMES),
            ("question_answer", QUESTION_NAMES),
            ("prompt_completion", PROMPT_NAMES),
        )
        for shape, wanted in shapes:
            if (prompt := names.find(wanted)) and _holds_prompt(prompt, sample):
                if judgement:
                    return Mapping(
                        shape="unpaired", instruction=prompt, input=context, output=output, label=judgement, system=system
                    )
                return Mapping(shape=shape, instruction=prompt, input=context, output=output, system=system, history=history)
        if context and _holds_text(context, sample):
            return Mapping(shape="prompt_completion", instruction=context, output=output, system=system, history=history)
    if texts := _find_texts(names, sample):
        return texts
    if len(columns) == 1 and (output := names.find(OUTPUT_NAMES)) and _holds_text(output, sample):
        return Mapping(shape="text", text=output)
    stray = next((column for column in names.find_all(MESSAGES_NAMES) if _holds_objects(column, sample)), None)
    if stray and not _by_content(columns, sample):
        return Mapping(shape="messages", messages=stray)
    asked = asked or next((name for name in names.find_all(("turns", "messages", "conversations")) if name), None)
    if asked and not output and (_holds_text(asked, sample) or _holds_text_lists(asked, sample)):
        answers = [column for column in _find_words(OUTPUT_NAMES, columns, sample) if column != asked]
        if answers or any(_holds_words(column, sample) for column in columns if column != asked):
            raise DatasetInvalid("no_shape", columns=_listed(columns), expected=EXPECTED)
        raise DatasetInvalid("no_answers", column=_shortened(asked), columns=_listed(columns))
    if any(len(column) > _LONGEST_NAME for column in columns):
        raise DatasetInvalid("running_text")
    if len(columns) == 1:
        raise DatasetInvalid("one_column", column=_shortened(columns[0]))
    raise DatasetInvalid("no_shape", columns=_listed(columns), expected=EXPECTED)


def _refuse_answer_lists(column: str, sample: Sequence[RawRow]) -> None:
    """Raise DatasetInvalid (`answer_lists`) where most rows hold several answers, of which nobody chose one."""
    # A list that stands there as text is an answer: models are taught to write JSON.
    values = [row.values.get(column) for row in sample]
    lists = [value for value in values if isinstance(value, list) and value and _turns_shape([value]) is None]
    if len(lists) * 2 > len(values) and all(isinstance(value[0], str | dict) for value in lists):
        raise DatasetInvalid("answer_lists", column=_shortened(column))


def _find_pairs(names: "_Names", conversation: str | None) -> Mapping | None:
    """Return the mapping of preference data; `conversation` is the column of turns, if there is one."""
    chosen, rejected = names.find(CHOSEN_NAMES), names.find(REJECTED_NAMES)
    if not (chosen and rejected):
        judged = (names.find((good,)) for good, _ in PAIR_NAMES), (names.find((bad,)) for _, bad in PAIR_NAMES)
        chosen, rejected = next((pair for pair in zip(*judged, strict=True) if all(pair)), (None, None))
    if not (chosen and rejected):
        return None
    system = names.find(SYSTEM_NAMES)
    if conversation:
        return Mapping(shape="preference", messages=conversation, output=chosen, rejected=rejected, system=system)
    prompt = names.find(ASKED_NAMES)
    context = names.find(INPUT_NAMES)
    if prompt is None:
        prompt, context = context, None
    return Mapping(shape="preference", instruction=prompt, input=context, output=chosen, rejected=rejected, system=system)


def _find_rejected(names: "_Names", conversation: str | None) -> Mapping | None:
    """Return the mapping of answers, or conversations, beside which another answer stands that is not preferred."""
    rejected = names.find(REJECTED_ANSWER_NAMES)
    if rejected is None:
        return None
    system = names.find(SYSTEM_NAMES)
    if conversation:
        return Mapping(shape="preference", output=conversation, rejected=rejected, system=system)
    prompt, output = names.find(ASKED_NAMES), names.find(OUTPUT_NAMES)
    if prompt is None or output is None:
        return None
    return Mapping(
        shape="preference", instruction=prompt, input=names.find(INPUT_NAMES), output=output, rejected=rejected, system=system
    )


def _find_texts(names: "_Names", sample: Sequence[RawRow]) -> Mapping | None:
    """Return the mapping of texts, with their classes where there are any."""
    text, label = names.find(CLASSIFIED_NAMES), names.find(CLASS_NAMES)
    if text and label and _holds_classes(label, sample):
        return Mapping(shape="classification", instruction=text, label=label)
    text, summary = names.find(TEXT_NAMES), names.find(SUMMARY_NAMES)
    if text and summary and _holds_text(summary, sample):
        return Mapping(shape="prompt_completion", instruction=text, output=summary)
    return Mapping(shape="text", text=text) if text else None


def is_known_name(name: str) -> bool:
    """Say whether a name is one that columns have."""
    return _plain(name) in _KNOWN_NAMES


def find_tools(columns: Sequence[str], mapping: Mapping, sample: Sequence[RawRow]) -> str | None:
    """Return the column that describes tools beside conversations, where the first rows have any and no part reads it."""
    if mapping.messages is None:
        return None
    used = set(mapping.model_dump(exclude={"shape"}, exclude_none=True).values())
    named = (column for column in _Names(columns).find_all(TOOLS_NAMES) if column not in used)
    return next((column for column in named if any(row.values.get(column) not in NOTHING for row in sample)), None)


def name_unread(columns: Sequence[str], mapping: Mapping, sample: Sequence[RawRow]) -> str:
    """Name the columns that play no part, where the first rows have anything in them; not the description of tools."""
    used = {*mapping.model_dump(exclude={"shape"}, exclude_none=True).values(), find_tools(columns, mapping, sample)}
    unread = (column for column in columns if column not in used)
    return _listed([column for column in unread if any(row.values.get(column) not in NOTHING for row in sample)])


def check_mapping(mapping: Mapping, columns: Sequence[str]) -> None:
    """Raise DatasetInvalid (`mapping_column`, `mapping_incomplete`) where a mapping given by hand cannot be used."""
    for part in Mapping.model_fields.keys() - {"shape"}:
        column = getattr(mapping, part)
        if column is not None and column not in columns:
            raise DatasetInvalid("mapping_column", column=_shortened(column), columns=_listed(columns))
    required = {
        "messages": ("messages",),
        "sharegpt": ("messages",),
        "text": ("text",),
        "instances": ("instruction", "instances"),
        "preference": ("output", "rejected"),
        "unpaired": ("messages", "label") if mapping.messages else ("instruction", "output", "label"),
        "classification": ("instruction", "label"),
    }
    for part in required.get(mapping.shape, ("instruction", "output")):
        if getattr(mapping, part) is None:
            raise DatasetInvalid("mapping_incomplete", shape=mapping.shape, part=part)


def parse_turns(value: object) -> object:
    """Return a list of turns; in CSV it stands as JSON text in the cell, or as Python shows it (pandas).

    Anything else comes back unchanged.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return _parse_literal(value)
    return value


def _parse_literal(text: str) -> object:
    """Return the list that a text shows in Python's way, numpy's included (no commas between lines); else the text."""
    if len(text) <= _LONGEST_LITERAL and _LITERAL_TURN.match(text):
        for written in (text, _BETWEEN_TURNS.sub("}, {", text)):
            with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                return ast.literal_eval(written.strip())
    return text


def _turns_shape(values: Iterable[object]) -> Shape | None:
    """Decide by the keys of the first turn that there is."""
    for value in values:
        turns = parse_turns(value)
        if isinstance(turns, list) and turns and isinstance(turns[0], dict):
            keys = turns[0].keys()
            if keys & {"role", "from"} and not keys.isdisjoint(CONTENT_NAMES):
                return "messages" if "role" in keys else "sharegpt"
            if any(keys >= set(pair) for pair in PAIRED_NAMES):
                return "sharegpt"
    return None


def read_judgement(value: object) -> bool | None:
    """Return whether a value says yes or no to an answer; None for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return value == 1
    words = {"true": True, "1": True, "yes": True, "good": True, "oui": True, "vrai": True}
    words |= {"false": False, "0": False, "no": False, "bad": False, "non": False, "faux": False}
    return words.get(value.strip().lower()) if isinstance(value, str) else None


def _holds_judgements(column: str, sample: Sequence[RawRow]) -> bool:
    values = [value for row in sample if (value := row.values.get(column)) not in (None, "")]
    return bool(values) and all(read_judgement(value) is not None for value in values)


def read_verdict(value: object) -> str:
    """Return what an annotator said of a row; nothing where nothing is said."""
    return value.strip().lower() if isinstance(value, str) else ""


def _holds_verdicts(column: str, sample: Sequence[RawRow]) -> bool:
    """Say whether every one of the first rows is accepted, rejected or ignored (Prodigy)."""
    values = [row.values.get(column) for row in sample if not row.problems]
    return bool(values) and all(read_verdict(value) in VERDICTS for value in values)


def _holds_classes(column: str, sample: Sequence[RawRow]) -> bool:
    """Say whether the first rows have short values there, of which many are alike."""
    values = [str(value) for row in sample if (value := row.values.get(column)) not in (None, "")]
    alike = len(values) < 10 or len(set(values)) <= len(values) // 2
    return bool(values) and alike and max(map(len, values)) <= _LONGEST_CLASS


def _holds_splits(column: str, sample: Sequence[RawRow]) -> bool:
    values = [value for row in sample if (value := row.values.get(column)) not in (None, "")]
    return bool(values) and all(isinstance(value, str) and _plain(value) in SPLITS for value in values)


def find_split(value: object) -> bool | None:
    """Return whether a row's own split holds it out; None where it names none."""
    return SPLITS.get(_plain(value)) if isinstance(value, str) else None


def _are_instances(value: object) -> bool:
    value = parse_turns(value)
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "output" in value[0]


def _holds_objects(column: str, sample: Sequence[RawRow]) -> bool:
    """Say whether any of the first rows has a list of objects there: turns, in a spelling that their reader names."""
    values = [parse_turns(row.values.get(column)) for row in sample]
    return any(isinstance(value, list) and value and isinstance(value[0], dict) for value in values)


def _holds_text_lists(column: str, sample: Sequence[RawRow]) -> bool:
    values = [row.values.get(column) for row in sample]
    return any(isinstance(value, list) and value and isinstance(value[0], str) for value in values)


def _holds_text(column: str, sample: Sequence[RawRow]) -> bool:
    """Say whether any of the first rows has text there (a vocabulary file maps the word "prompt" to a number)."""
    return any(isinstance(row.values.get(column), str) for row in sample)


def _holds_prompt(column: str, sample: Sequence[RawRow]) -> bool:
    """Say whether any of the first rows has text or a list of turns there."""
    return _holds_text(column, sample) or _turns_shape(row.values.get(column) for row in sample) is not None


class _Names:
    """Columns by their name without case, accents, spaces and punctuation."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns: dict[str, str] = {}
        for column in columns:
            self._columns.setdefault(_plain(column), column)

    def find(self, wanted: Sequence[str]) -> str | None:
        """Return the column with the first of the wanted names that there is."""
        return next((self._columns[name] for name in wanted if name in self._columns), None)

    def find_all(self, wanted: Sequence[str]) -> list[str]:
        """Return every column with a wanted name."""
        return [self._columns[name] for name in wanted if name in self._columns]


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "_".join("".join(letter if letter.isalnum() else " " for letter in letters).split())


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(_shortened(column) for column in columns[:8])
    return f"{shown}, …" if len(columns) > 8 else shown


def _shortened(name: str) -> str:
    """One line of at most 40 characters."""
    line = " ".join(name.split())
    return line if len(line) <= 40 else f"{line[:39]}…"
