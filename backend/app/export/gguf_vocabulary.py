"""The tokenizer as GGUF metadata: tokens, kinds, merges or scores, the way text is split, and the chat template.

llama.cpp has the ways of splitting text built in, under names; only tokenizers whose way is known by name can be written.
The certificate compares the ids of real prompts, so that a wrong name cannot pass.
"""

import json
from typing import Any

from gguf import GGUFWriter, TokenType
from tokenizers import Tokenizer

from app.core.errors import Unsupported
from app.datasets.template import PLAIN_TEMPLATE
from app.datasets.tokenizer_files import TokenizerFiles

_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPLITS = {_QWEN2: "qwen2", _LLAMA3: "llama-bpe", _GPT2: "gpt-2"}
_SPACE = "▁"


def add_vocabulary(writer: GGUFWriter, files: TokenizerFiles, rows: int) -> None:
    """Write the tokenizer of a model whose embedding has `rows` rows. Raise Unsupported for one that llama.cpp lacks."""
    described: dict[str, Any] = json.loads(files.tokenizer.to_str())
    model = described["model"]
    if model["type"] != "BPE":
        raise Unsupported("gguf_tokenizer", kind=model["type"])
    tokens, kinds = _tokens(files.tokenizer, rows)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    if model.get("byte_fallback"):
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_token_types([_kind_with_bytes(token, kind) for token, kind in zip(tokens, kinds, strict=True)])
        writer.add_bool("tokenizer.ggml.add_space_prefix", _prepends_space(described))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_split_name(described.get("pre_tokenizer")))
        writer.add_token_list(tokens)
        writer.add_token_types(kinds)
        writer.add_token_merges(merges)
    writer.add_eos_token_id(files.eos_id)
    writer.add_pad_token_id(files.pad_id)
    if files.bos_id is not None:
        writer.add_bos_token_id(files.bos_id)
    if (unknown := files.special_tokens.get("unk_token")) is not None:
        writer.add_unk_token_id(files.tokenizer.token_to_id(unknown))
    writer.add_add_bos_token(starts_with_bos(files))
    writer.add_chat_template(written_template(files))


def written_template(files: TokenizerFiles) -> str:
    """Return the template of training, which for a model without one is ours, with its end token written out."""
    return files.chat_template or PLAIN_TEMPLATE


def starts_with_bos(files: TokenizerFiles) -> bool:
    """Return whether the tokenizer sets its start token before a text."""
    if files.bos_id is None:
        return False
    if files.add_bos is not None:
        return files.add_bos
    first: list[int] = files.tokenizer.encode("a", add_special_tokens=True).ids
    return bool(first) and first[0] == files.bos_id and len(first) > 1


def check_vocabulary(files: TokenizerFiles) -> None:
    """Raise Unsupported when the tokenizer cannot be written; writes nothing."""
    add_vocabulary(GGUFWriter(None, "llama"), files, files.tokenizer.get_vocab_size())


def _tokens(tokenizer: Tokenizer, rows: int) -> tuple[list[str], list[int]]:
    """Return text and kind of every row of the embedding; rows without a token are unused."""
    added = tokenizer.get_added_tokens_decoder()
    tokens, kinds = [], []
    for token_id in range(rows):
        token = tokenizer.id_to_token(token_id)
        if token is None:
            tokens.append(f"[PAD{token_id}]")
            kinds.append(int(TokenType.UNUSED))
            continue
        known = added.get(token_id)
        tokens.append(token)
        kind = TokenType.NORMAL if known is None else TokenType.CONTROL if known.special else TokenType.USER_DEFINED
        kinds.append(int(kind))
    if tokenizer.get_vocab_size() > rows:
        raise Unsupported("gguf_vocabulary", tokens=tokenizer.get_vocab_size(), rows=rows)
    return tokens, kinds


def _kind_with_bytes(token: str, kind: int) -> int:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return int(TokenType.BYTE)
    return int(TokenType.UNKNOWN) if token == "<unk>" else kind  # noqa: S105


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Return each token's score: llama.cpp joins what scores highest first, which is the order of the merges."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", "", 1), rank)
    return [-float(ranks.get(token, len(merges))) for token in tokens]


def _prepends_space(described: dict[str, Any]) -> bool:
    """Return whether a text gets a space before it: asked for by a Prepend normalizer or by Metaspace."""
    text = json.dumps([described.get("normalizer"), described.get("pre_tokenizer")], ensure_ascii=False)
    return '"type": "Prepend"' in text or '"prepend_scheme": "always"' in text or '"prepend_scheme": "first"' in text


def _split_name(split: dict[str, Any] | None) -> str:
    """Return llama.cpp's name for a byte-level tokenizer's way of splitting. Raise Unsupported when it has none."""
    parts = split.get("pretokenizers", [split]) if split else []
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True) and not parts[0].get("add_prefix_space"):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits") and not parts[1].get("add_prefix_space"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not parts[1].get("use_regex", True):
        name = _SPLITS.get(parts[0]["pattern"].get("Regex", ""))
        if name is not None:
            return name
    raise Unsupported("gguf_splitting", kinds=" + ".join(kinds) or "-")
