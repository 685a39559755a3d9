"""The answering loop against transformers' and PEFT's own, on tiny real models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import AutoModelForCausalLM

from app.contracts.chat import GenerateCommand, Generation
from app.contracts.dataset import Message
from app.core.errors import Invalid, ModelUnavailable, Unsupported
from app.datasets.render import Renderer
from app.inference import engine as engine_module
from app.inference.detokenise import REPLACEMENT, TextStream
from app.inference.engine import Engine
from app.inference.sampling import Sampler
from app.inference.server import Interrupted
from app.training.lora import LoraLayer
from tests.engine.tiny import GPT2_TARGETS, LLAMA_TARGETS, write_llama

QUESTION = [Message(role="user", content="What does the owl eat?")]


def never() -> bool:
    return False


def command(
    model: Path, adapter: Path | None = None, messages: list[Message] | None = None, **generation: Any
) -> GenerateCommand:
    return GenerateCommand(
        target="tuned" if adapter else "base",
        model_path=str(model),
        adapter_path=str(adapter) if adapter else None,
        dtype="float32",
        messages=messages or QUESTION,
        generation=Generation(**{"max_new_tokens": 24, **generation}),
    )


def say(engine: Engine, asked: GenerateCommand, is_interrupted: Callable[[], bool] = never) -> str:
    deltas = list(engine.answer(asked, is_interrupted))
    assert [delta.finished for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    return "".join(delta.delta for delta in deltas)


def reference(model: Any, folder: Path, messages: list[Message] | None = None, new_tokens: int = 24) -> str:
    """The answer of transformers' own greedy `generate`."""
    renderer = Renderer.load(folder)
    prompt = renderer.encode_prompt(messages or QUESTION)
    with torch.no_grad():
        ids = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=sorted(renderer.stop_ids),
            pad_token_id=renderer.pad_id,
        )[0, len(prompt) :].tolist()
    if ids and ids[-1] in renderer.stop_ids:
        ids.pop()
    return renderer.decode(ids)


def load(folder: Path) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def write_adapter(model: Path, folder: Path, targets: list[str], seed: int = 1) -> Path:
    """An adapter written by PEFT that changes the answers."""
    tuned = get_peft_model(load(model), LoraConfig(r=4, lora_alpha=12, target_modules=targets, task_type="CAUSAL_LM"))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    tuned.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_greedy_answers_equal_those_of_transformers(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)

    answer = say(Engine("cpu"), command(folder))

    assert answer == reference(load(folder), folder)
    assert answer


@pytest.mark.parametrize(("name", "targets"), [("llama", LLAMA_TARGETS), ("gpt2", GPT2_TARGETS)])
def test_tuned_answers_equal_those_of_peft_and_the_original_stays_what_it_was(
    name: str, targets: list[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    first, second = (write_adapter(folder, tmp_path / str(seed), targets, seed) for seed in (1, 2))
    base = reference(load(folder), folder)
    engine = Engine("cpu")

    spoken = [say(engine, command(folder, adapter)) for adapter in (None, first, None, second, first, None)]

    tuned = {adapter: reference(PeftModel.from_pretrained(load(folder), adapter), folder) for adapter in (first, second)}
    assert len({base, *tuned.values()}) == 3, "the adapters must matter for this test to mean anything"
    assert spoken == [base, tuned[first], base, tuned[second], tuned[first], base]


def test_one_base_model_serves_the_original_and_every_adapter(llama: Path, tmp_path: Path) -> None:
    adapters = [write_adapter(llama, tmp_path / str(seed), LLAMA_TARGETS, seed) for seed in (1, 2)]
    engine = Engine("cpu")
    say(engine, command(llama))
    assert engine._resident is not None
    weights = engine._resident.model.get_input_embeddings().weight  # type: ignore[operator, union-attr]

    for adapter in adapters:
        say(engine, command(llama, adapter))
        assert engine._resident.model.get_input_embeddings().weight is weights  # type: ignore[operator, union-attr]
        assert len(engine._resident.adapters.list_layers()) == 2 * len(LLAMA_TARGETS), "layers are wrapped once, not each time"


def test_an_adapter_that_was_trained_again_is_read_again(llama: Path, tmp_path: Path) -> None:
    adapter = write_adapter(llama, tmp_path / "adapter", LLAMA_TARGETS, seed=1)
    engine = Engine("cpu")
    before = say(engine, command(llama, adapter))

    write_adapter(llama, adapter, LLAMA_TARGETS, seed=2)

    assert say(engine, command(llama, adapter)) != before


def test_a_long_prompt_read_in_pieces_gives_the_same_answer(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [Message(role="user", content="How many owls are there, and who counts them? " * 4)]
    monkeypatch.setattr(engine_module, "PREFILL_TOKENS", 7)

    assert say(Engine("cpu"), command(llama, messages=messages)) == reference(load(llama), llama, messages)


def test_an_answer_ends_before_the_token_that_closes_it(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("cpu")
    said: list[int] = []

    class Listener(Sampler):
        def choose(self, scores: torch.Tensor) -> int:
            said.append(super().choose(scores))
            return said[-1]

    monkeypatch.setattr(engine_module, "Sampler", Listener)
    whole = list(engine.answer(command(llama), never))
    resident = engine._resident
    assert resident is not None
    ids = list(said)
    resident.renderer.stop_ids = frozenset({ids[5]})

    cut = list(engine.answer(command(llama), never))

    assert cut[-1].tokens == ids.index(ids[5]) < whole[-1].tokens
    text = resident.renderer.decode(ids[: ids.index(ids[5])])
    assert "".join(delta.delta for delta in cut) == text


def test_max_new_tokens_limits_the_answer_and_every_delta_counts(llama: Path) -> None:
    deltas = list(Engine("cpu").answer(command(llama, max_new_tokens=5), never))

    assert deltas[-1].tokens <= 5
    assert [delta.tokens for delta in deltas] == sorted(delta.tokens for delta in deltas)
    assert 0 < deltas[0].seconds <= deltas[-1].seconds


def test_the_answer_ends_where_the_models_context_ends(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "short", context=64)
    prompt = len(Renderer.load(folder).encode_prompt(QUESTION))

    deltas = list(Engine("cpu").answer(command(folder, max_new_tokens=500, temperature=5.0), never))

    assert prompt < 64
    assert deltas[-1].tokens <= 64 - prompt
    with pytest.raises(Invalid) as caught:
        say(Engine("cpu"), command(folder, messages=[Message(role="user", content="long " * 50)]))
    assert caught.value.key == "invalid.prompt_too_long"
    assert caught.value.params["limit"] == 64


def test_one_seed_gives_one_answer_and_another_seed_another(llama: Path) -> None:
    engine = Engine("cpu")

    answers = [say(engine, command(llama, temperature=1.5, seed=seed)) for seed in (1, 2, 1)]

    assert answers[0] == answers[2] != answers[1]


def test_a_tiny_nucleus_is_greedy(llama: Path) -> None:
    engine = Engine("cpu")

    assert say(engine, command(llama, temperature=2.0, top_p=1e-6, seed=5)) == say(engine, command(llama))


def test_the_nucleus_holds_the_likeliest_tokens_until_top_p() -> None:
    scores = torch.log(torch.tensor([0.1, 0.5, 0.3, 0.05, 0.05]))
    sampler = Sampler(Generation(temperature=1.0, top_p=0.75, seed=3))

    drawn = [sampler.choose(scores) for _ in range(2000)]

    assert set(drawn) == {1, 2}
    assert drawn.count(1) / len(drawn) == pytest.approx(0.5 / 0.8, abs=0.05)


def test_temperature_draws_by_probability() -> None:
    scores = torch.log(torch.tensor([0.2, 0.8]))
    sampler = Sampler(Generation(temperature=1.0, seed=3))

    drawn = [sampler.choose(scores) for _ in range(2000)]

    assert drawn.count(1) / len(drawn) == pytest.approx(0.8, abs=0.04)


def test_a_stop_is_noticed_between_two_tokens(llama: Path) -> None:
    calls: list[int] = []

    def third_time() -> bool:
        calls.append(1)
        return len(calls) > 3

    with pytest.raises(Interrupted):
        say(Engine("cpu"), command(llama, temperature=5.0, max_new_tokens=500), third_time)
    assert len(calls) == 4


def test_an_adapter_of_another_model_is_refused_and_the_original_still_answers(llama: Path, gpt2: Path, tmp_path: Path) -> None:
    adapter = write_adapter(gpt2, tmp_path / "adapter", GPT2_TARGETS)
    engine = Engine("cpu")
    base = say(engine, command(llama))

    with pytest.raises(Invalid):
        say(engine, command(llama, adapter))

    assert say(engine, command(llama)) == base
    assert engine._resident is not None
    assert not [module for module in engine._resident.model.modules() if isinstance(module, LoraLayer)]
    assert not engine._resident.adapters.list_layers()


def test_missing_models_and_adapters_are_named(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        say(Engine("cpu"), command(tmp_path / "nothing"))
    assert caught.value.key == "model_unavailable.folder_incomplete"
    with pytest.raises(ModelUnavailable) as caught:
        say(Engine("cpu"), command(llama, tmp_path / "nothing"))
    assert caught.value.key == "model_unavailable.adapter_missing"


def test_pickled_weights_are_never_read(llama: Path, tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "pickled")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()

    with pytest.raises(ModelUnavailable):
        say(Engine("cpu"), command(folder))


def test_four_bit_weights_without_their_package_say_what_to_install(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.training.loading.FOUR_BIT_PACKAGES", ("no_such_package",))
    asked = command(llama).model_copy(update={"quantization": "nf4"})

    with pytest.raises(Unsupported) as caught:
        say(Engine("cpu"), asked)

    assert "qlora" in caught.value.hint


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece_like() -> Tokenizer:
    words = ["▁Un", "▁été", "▁à", "▁Paris", "▁", "é", "t", "!"]
    tokenizer = Tokenizer(models.BPE(vocab={"<unk>": 0, **{w: i + 1 for i, w in enumerate(words)}}, merges=[], unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


TEXT = "Été à Œuf: naïve 😀👩‍👩‍👧 日本語 ñ"


def test_characters_of_several_tokens_arrive_whole() -> None:
    tokenizer = byte_level()
    stream = TextStream(lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True))

    pieces = [stream.push(token) for token in tokenizer.encode(TEXT).ids]

    assert not [piece for piece in pieces if REPLACEMENT in piece]
    assert "".join(pieces) == TEXT
    assert stream.flush() == ""
    assert [piece for piece in pieces if piece] == list(TEXT), "each character comes as soon as it is complete"


def test_spaces_between_words_survive_a_decoder_that_drops_the_first_one() -> None:
    tokenizer = sentencepiece_like()
    ids = [tokenizer.token_to_id(token) for token in ("▁Un", "▁été", "▁à", "▁Paris", "▁", "!")]
    stream = TextStream(lambda some: tokenizer.decode(list(some), skip_special_tokens=True))

    pieces = [stream.push(token) for token in ids]

    assert "".join(pieces) + stream.flush() == tokenizer.decode(ids) == "Un été à Paris !"


def test_an_answer_that_ends_within_a_character_loses_nothing_before_it() -> None:
    tokenizer = byte_level()
    stream = TextStream(lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True))

    pieces = [stream.push(token) for token in tokenizer.encode("Oui 😀").ids[:-1]]

    assert "".join(pieces) == "Oui "
    assert set(stream.flush()) == {REPLACEMENT}
    assert stream.flush() == ""
