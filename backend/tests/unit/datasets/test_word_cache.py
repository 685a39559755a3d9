"""The ids of remembered words are those of the whole text, and no tokenizer is cut that does not cut itself."""

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer

from app.datasets import word_cache
from app.datasets.word_cache import WordCache, cuts_before_spaces

LLAMA_3, QWEN = sorted(word_cache._PATTERNS, key=len, reverse=True)
TRAINED_ON = [
    "The code is 4471, isn't it? It's  4471.\n\n  def f(x):\n\treturn x + 1\r\n",
    "Le café coûte 3,50 € — ça va ! L’été, voilà.",
    "the theory of the thing, and then they're there",
    "密码是 4471。 ¿Qué tal? Привет, мир!",
]


def trained(pre_tokenizer: pre_tokenizers.PreTokenizer, normalizer: normalizers.Normalizer | None = None) -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=700,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|im_start|>", "<|im_end|>"],
        show_progress=False,
        min_frequency=1,
    )
    tokenizer.train_from_iterator(TRAINED_ON * 3, trainer)
    return tokenizer


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "smollm2": lambda: trained(
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    ),
    "llama 3": lambda: trained(split(LLAMA_3)),
    "qwen": lambda: trained(split(QWEN), normalizers.NFC()),
}


@cache
def tokenizer_and_cache(name: str) -> tuple[Tokenizer, WordCache]:
    """One cache for all examples, so that most words of a later one are known."""
    tokenizer = TOKENIZERS[name]()
    return tokenizer, WordCache(tokenizer)


def plain(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


SPACES = [" ", "  ", "\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "\u180e", "\x1c", "\x85", "\u200b"]
WORDS = ["a", "the", "'s", "'S", "don't", "4471", "12", "²", "½", "é", "e\u0301", "\u0301", "¨", "密码", "мир", "🙂"]
MARKS = [",", ".", "...", "(", "_", "\u0000", "\ufdd0", "<|im_start|>", "<|im_end|>", "<|im", "user\n", "def f(x):\n    return x"]
MIXED = ["3.14", "a1b2", "$5", "x.y", "_z", "24.\n<<4*6=24>>24", '"Don\'t!"', "'re'll", "½3", "3½"]
FRAGMENTS = st.sampled_from(SPACES + WORDS + MARKS + MIXED)
TEXTS = st.lists(st.lists(st.one_of(FRAGMENTS, st.characters(exclude_categories=["Cs"])), max_size=14).map("".join), max_size=4)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=400, deadline=None)
@given(texts=TEXTS)
def test_the_ids_are_those_of_the_whole_text(name: str, texts: list[str]) -> None:
    tokenizer, words = tokenizer_and_cache(name)
    assert cuts_before_spaces(tokenizer)
    assert words.encode(texts) == plain(tokenizer, texts)
    assert words.encode(texts) == plain(tokenizer, texts)


def test_control_tokens_as_text_are_cut_alike() -> None:
    tokenizer = Tokenizer.from_str(TOKENIZERS["qwen"]().to_str())
    tokenizer.encode_special_tokens = True
    texts = ["say <|im_end|> now", "<|im_start|> user"]
    assert WordCache(tokenizer).encode(texts) == plain(tokenizer, texts)


def test_memory_is_bounded_and_what_was_forgotten_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "MOST_WORDS", 50)
    monkeypatch.setattr(word_cache, "MOST_PARTS", 30)
    tokenizer = TOKENIZERS["gpt2"]()
    words = WordCache(tokenizer)
    for start in range(0, 400, 20):
        texts = [" ".join(f"w{start + place}" for place in range(20)), "x" * (word_cache.LONGEST_WORD + 1)]
        assert words.encode(texts) == plain(tokenizer, texts)
        caches = (words._first, words._spaced, words._parts)
        assert len(words._first) + len(words._spaced) <= 50 and len(words._parts) <= 30
        assert all(len(word) <= word_cache.LONGEST_WORD for known in caches for word in known)


def with_token(token: AddedToken) -> Tokenizer:
    tokenizer = TOKENIZERS["gpt2"]()
    tokenizer.add_tokens([token])
    return tokenizer


UNCUT: dict[str, Callable[[], Tokenizer]] = {
    "no cut at all": lambda: Tokenizer(BPE()),
    "a space of its own before a text": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "SentencePiece": lambda: trained(pre_tokenizers.Metaspace()),
    "another pattern": lambda: trained(split(r"\w+ \w+|.")),
    "another normalizer": lambda: trained(split(LLAMA_3), normalizers.Replace(" ", "_")),
    "another model": lambda: Tokenizer(Unigram()),
    "a token that eats spaces": lambda: with_token(AddedToken("<mask>", lstrip=True)),
    "a token of two words": lambda: with_token(AddedToken("two words")),
    "a token that must be a word": lambda: with_token(AddedToken("word", single_word=True)),
}


@pytest.mark.parametrize("name", UNCUT)
def test_other_tokenizers_are_asked_as_they_are(name: str) -> None:
    tokenizer = UNCUT[name]()
    assert not cuts_before_spaces(tokenizer)
    texts = ["two words, a word", " <mask> and the 4471"]
    assert WordCache(tokenizer).encode(texts) == plain(tokenizer, texts)
