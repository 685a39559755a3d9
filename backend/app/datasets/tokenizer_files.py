"""A model folder's tokenizer, special tokens and chat template, read with the `tokenizers` library alone."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from app.core.errors import ModelUnavailable

VOCABULARY_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
"""Byte-level BPE in two files: transformers' names, then OpenAI's own for GPT-2."""

READ_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "config.json",
    *(name for pair in VOCABULARY_PAIRS for name in pair),
)
"""Every file that rendering depends on."""

RENDERING_VERSION = 1
"""Raised when render.py gives other ids for the same files, so that what was counted or encoded before is not used."""

KNOWN_END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>", "</s>", "<eos>")
"""Tried in this order where no file names the end-of-sequence token (bare vocabularies)."""

SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class TokenizerFiles:
    """What a model folder says about its tokens."""

    folder: Path
    tokenizer: Tokenizer
    special_tokens: dict[str, str]
    """`bos_token`, `eos_token`, ...: only those that exist. `eos_token` always does."""
    eos_id: int
    bos_id: int | None
    pad_id: int
    stop_ids: frozenset[int]
    """From generation_config.json, config.json and the tokenizer's own end token."""
    add_bos: bool | None
    """`add_bos_token` of tokenizer_config.json; None = as the tokenizer's own post-processor does."""
    chat_template: str | None


def load_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Read everything from `folder`. Raise ModelUnavailable when a file is missing or broken."""
    tokenizer = _load_tokenizer(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = _read_object(folder / "tokenizer_config.json")
    special = _special_tokens(config, _read_object(folder / "special_tokens_map.json"))
    stop_ids = [
        token
        for name in ("generation_config.json", "config.json")
        for token in _id_list(_read_object(folder / name).get("eos_token_id"))
        if tokenizer.id_to_token(token) is not None
    ]
    if "eos_token" not in special:
        special["eos_token"] = _end_token(tokenizer, stop_ids, folder)
    known = tokenizer.get_added_tokens_decoder()
    marked = {token.content for token in known.values() if token.special}
    if missing := [text for text in dict.fromkeys(special.values()) if text not in marked]:
        tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in missing])
    ids = {name: tokenizer.token_to_id(text) for name, text in special.items()}
    eos_id = ids["eos_token"]
    assert eos_id is not None, "add_special_tokens gave it an id"
    pad_id = ids.get("pad_token")
    add_bos = config.get("add_bos_token")
    return TokenizerFiles(
        folder=folder,
        tokenizer=tokenizer,
        special_tokens=special,
        eos_id=eos_id,
        bos_id=ids.get("bos_token"),
        pad_id=eos_id if pad_id is None else pad_id,
        stop_ids=frozenset([*stop_ids, eos_id]),
        add_bos=add_bos if isinstance(add_bos, bool) else None,
        chat_template=_chat_template(folder, config),
    )


def fingerprint(folder: Path) -> str:
    """Return a SHA-256 of all that the ids of a text depend on: the folder's files and the code that reads them."""
    digest = hashlib.sha256(f"{RENDERING_VERSION} ".encode())
    for name in READ_FILES:
        path = folder / name
        if path.is_file():
            digest.update(f"{name} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


def _load_tokenizer(folder: Path) -> Tokenizer:
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        for vocabulary, merges in VOCABULARY_PAIRS:
            if (folder / vocabulary).is_file() and (folder / merges).is_file():
                tokenizer = Tokenizer(BPE.from_file(str(folder / vocabulary), str(folder / merges)))
                tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
                tokenizer.decoder = ByteLevelDecoder()
                return tokenizer
    # The library raises bare Exception for every kind of broken file.
    except Exception as error:
        raise ModelUnavailable("tokenizer_broken", folder=folder.name, reason=" ".join(str(error).split())[:200]) from error
    raise ModelUnavailable("tokenizer_missing", folder=folder.name)


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; empty when the file is absent."""
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise ModelUnavailable("tokenizer_broken", folder=path.parent.name, reason=f"{path.name}: {error}") from error
    return loaded if isinstance(loaded, dict) else {}


def _special_tokens(*sources: dict[str, Any]) -> dict[str, str]:
    """Collect the named special tokens; the first source that has one wins. Values are texts or AddedToken objects."""
    found: dict[str, str] = {}
    for source in sources:
        for name in SPECIAL_NAMES:
            value = source.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and text:
                found.setdefault(name, text)
    return found


def _id_list(value: object) -> list[int]:
    """`eos_token_id` is a number, a list of numbers or null."""
    values = value if isinstance(value, list) else [value]
    return [token for token in values if isinstance(token, int) and not isinstance(token, bool) and token >= 0]


def _end_token(tokenizer: Tokenizer, stop_ids: list[int], folder: Path) -> str:
    if stop_ids:
        token = tokenizer.id_to_token(stop_ids[0])
        assert token is not None, "unknown ids were left out"
        return token
    for text in KNOWN_END_TOKENS:
        if tokenizer.token_to_id(text) is not None:
            return text
    raise ModelUnavailable("no_end_token", folder=folder.name)


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """chat_template.jinja, else `chat_template` of tokenizer_config.json: a text, or named ones ("default" is taken)."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    value = config.get("chat_template")
    if isinstance(value, list):
        named = {
            entry["name"]: entry["template"] for entry in value if isinstance(entry, dict) and {"name", "template"} <= set(entry)
        }
        value = named.get("default") or next(iter(named.values()), None)
    return value if isinstance(value, str) and value.strip() else None
