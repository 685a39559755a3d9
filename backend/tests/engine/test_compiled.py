"""Steps of compiled code against the model's own code, in bfloat16 and in exact arithmetic, and against themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from app.contracts.chat import GenerateCommand
from app.contracts.dataset import Example, Message
from app.inference.engine import Engine
from app.training.comparing.answering import Answerer
from app.training.comparing.writing import PROMPT_TOKENS, write_answers
from app.training.compiled import CompiledModel, Stretch, find_compiled
from app.training.native.build import load_library
from tests.engine.test_answers_together import say_together
from tests.engine.test_inference import command, say, write_adapter
from tests.engine.tiny import CHAT_TEMPLATE, LLAMA_TARGETS, VOCABULARY, make_job, write_tokenizer

pytestmark = pytest.mark.usefixtures("compiled_products")

SIZES: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 1024,
    "initializer_range": 0.15,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
}
KINDS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "llama with scaled positions": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZES, rope_parameters={"rope_type": "linear", "factor": 3.0, "rope_theta": 5000.0})
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**{**SIZES, "num_key_value_heads": 6}, sliding_window=None)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**{**SIZES, "num_key_value_heads": 1, "head_dim": 64})),
}


def make(kind: str) -> Any:
    torch.manual_seed(3)
    model = KINDS[kind]()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight")):
                parameter.normal_(1.0, 0.3)
    return model.to(torch.bfloat16).eval()


def compile_(model: Any) -> CompiledModel:
    compiled = find_compiled(model)
    assert compiled is not None
    return compiled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose sizes fill tiles."""
    path = tmp_path_factory.mktemp("models") / "tiles"
    make("llama").save_pretrained(path)
    write_tokenizer(path, CHAT_TEMPLATE)
    return path


def bf16(asked: GenerateCommand) -> GenerateCommand:
    return asked.model_copy(update={"dtype": "bfloat16"})


def ask(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def read(model: CompiledModel, ids: Sequence[int], pieces: Sequence[int]) -> torch.Tensor:
    """The scores after each piece of so many tokens."""
    cache, start, scores = model.new_cache(len(ids)), 0, []
    for size in pieces:
        scores.append(model.step([Stretch(ids[start : start + size], start, cache, (0, 0))])[0])
        start += size
    return torch.stack(scores)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_scores_are_as_near_to_exact_arithmetic_as_the_models_own(kind: str) -> None:
    model = make(kind)
    ids = torch.randint(3, VOCABULARY, (1, 45), generator=torch.Generator().manual_seed(1))
    own = model(ids).logits[0].float()
    exact = make(kind).float()(ids).logits[0]

    scores = read(compile_(model), ids[0].tolist(), [1, 19, *[1] * 25])

    places = [0, *range(19, 45)]
    assert (scores - exact[places]).abs().mean() <= 1.1 * (own - exact)[places].abs().mean()
    assert (scores - exact[places]).abs().max() <= 1.5 * (own - exact)[places].abs().max()
    assert exact.std() > 0.5, "random scores that mean nothing would be near to anything"


def test_a_prompt_in_pieces_and_in_company_gives_the_same_bits() -> None:
    model = compile_(make("llama"))
    draw = torch.Generator().manual_seed(2)
    rows = [torch.randint(3, VOCABULARY, (size,), generator=draw).tolist() for size in (300, 7, 64, 1, 33, 290)]

    alone = [read(model, ids, [len(ids)])[0] for ids in rows]
    together = model.step([Stretch(ids, 0, model.new_cache(400), (0, 0)) for ids in rows])

    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    assert torch.equal(read(model, rows[0], [100, 1, 150, 49])[-1], alone[0])


def test_what_lay_in_the_room_of_an_answer_before_does_not_matter() -> None:
    model = compile_(make("llama"))
    ids = [3 + place % 50 for place in range(300)]
    room = model.new_cache(310).fill_(float("nan"))

    model.step([Stretch(ids[:290], 0, room, (0, 0), wanted=False)])
    scores = model.step([Stretch(ids[290:], 290, room, (0, 0))])[0]

    assert torch.equal(scores, read(model, ids, [300])[0])


@pytest.mark.parametrize(
    ("ids", "start"), [([3, VOCABULARY], 0), ([-1], 0), ([3], 64)], ids=["no such token", "negative", "no room"]
)
def test_what_would_be_read_or_written_outside_of_the_arrays_is_refused(ids: list[int], start: int) -> None:
    model = compile_(make("llama"))

    with pytest.raises(IndexError):
        model.step([Stretch(ids, start, model.new_cache(60), (0, 0))])


def test_the_number_of_threads_changes_no_bit() -> None:
    model = compile_(make("llama"))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(read(model, list(range(3, 103)), [80, 1, 19]))
    finally:
        torch.set_num_threads(before)

    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_each_answer_of_a_batch_has_its_own_adapter_and_is_the_same_in_any_company(folder: Path, tmp_path: Path) -> None:
    adapters = [write_adapter(folder, tmp_path / str(seed), LLAMA_TARGETS, seed) for seed in (1, 2)]
    adapters.append(write_wide(folder, tmp_path / "wide"))
    texts = ["Hi", "What does the owl eat, and who counts them?", "Why?", "How many?", "Tell me about oxen."]
    asked = [
        bf16(command(folder, adapter, ask(text), max_new_tokens=20))
        for adapter, text in zip([adapters[0], None, adapters[2], adapters[1], adapters[0]], texts, strict=True)
    ]

    alone = [say(Engine("cpu"), one) for one in asked]

    assert say_together(Engine("cpu"), asked) == alone
    assert say_together(Engine("cpu"), asked, apart=3) == alone
    assert len({say(Engine("cpu"), bf16(command(folder, adapter))) for adapter in (None, *adapters)}) == 4


def write_wide(model: Path, folder: Path) -> Path:
    """An adapter of another rank, on some of the layers."""
    config = LoraConfig(r=20, lora_alpha=30, target_modules=["v_proj", "down_proj"], task_type="CAUSAL_LM")
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), config)
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    tuned.save_pretrained(folder)
    return folder


@torch.no_grad()
def test_an_adapter_is_computed_as_peft_computes_it(folder: Path, tmp_path: Path) -> None:
    adapter = write_wide(folder, tmp_path / "wide")
    ids = list(range(3, 60))
    scores = {}
    for dtype in (torch.float32, torch.bfloat16):
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        scores[dtype] = PeftModel.from_pretrained(loaded, adapter)(torch.tensor([ids])).logits[0, -1].float()
    engine = Engine("cpu")
    engine.start(bf16(command(folder, adapter)), lambda: False)
    engine.step()
    assert engine._resident is not None
    assert engine._resident.ragged is not None
    model = engine._resident.ragged.model

    tuned = model.step([Stretch(ids, 0, model.new_cache(60), (0, 20))])[0]

    exact, own = scores[torch.float32], scores[torch.bfloat16]
    assert (tuned - exact).abs().mean() <= 1.1 * (own - exact).abs().mean()
    assert (model.step([Stretch(ids, 0, model.new_cache(60), (0, 0))])[0] - exact).abs().mean() > 1.0


@torch.no_grad()
def test_greedy_answers_equal_those_of_transformers_where_it_is_sure(folder: Path) -> None:
    """bfloat16 leaves near ties to chance: transformers' own answer must win by more than its own error."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    ids = list(range(3, 40))
    told = model.generate(torch.tensor([ids]), max_new_tokens=60, do_sample=False, eos_token_id=None, pad_token_id=0)[0]
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(told[None]).logits[0]
    own = model(told[None]).logits[0].float()
    error = (own - exact).abs().max()
    compiled = compile_(model)

    scores = read(compiled, told.tolist(), [len(ids), *[1] * 59])

    best = exact[len(ids) - 1 : -1].topk(2).values
    sure = best[:, 0] - best[:, 1] > 2 * error
    assert sure.sum() > 20
    assert torch.equal(scores.argmax(-1)[sure], told[len(ids) :][sure])


def test_the_next_turn_is_read_from_where_the_answer_before_ended_and_says_the_same(folder: Path) -> None:
    first = ask("What does the owl eat, and who counts the oxen on the farm behind the hill?")
    engine = Engine("cpu")
    answer = say(engine, bf16(command(folder, messages=first)))
    second = [*first, Message(role="assistant", content=answer), *ask("And why?")]

    asked = bf16(command(folder, messages=second, temperature=1.2, seed=3))
    engine.start(asked, lambda: False)
    assert engine._resident is not None
    assert engine._resident.ragged is not None
    line = engine._resident.ragged._lines[0]

    assert line.read >= len(engine._resident.renderer.encode_prompt(first))
    engine.drop(line.answer)
    assert say(engine, asked) == say(Engine("cpu"), asked)


def test_dora_is_left_to_the_models_own_code_beside_compiled_answers(folder: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=LLAMA_TARGETS, use_dora=True, task_type="CAUSAL_LM")
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)
    torch.manual_seed(9)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                parameter.normal_(std=0.2)
    tuned.save_pretrained(tmp_path / "dora")
    plain = write_adapter(folder, tmp_path / "plain", LLAMA_TARGETS)
    asked = [bf16(command(folder, adapter, ask("Why?"))) for adapter in (tmp_path / "dora", plain, None)]

    together = say_together(Engine("cpu"), asked)

    assert together == [say(Engine("cpu"), one) for one in asked]
    assert len(set(together)) == 3


def test_answers_of_a_report_are_those_of_the_chat(folder: Path, tmp_path: Path) -> None:
    adapter = write_adapter(folder, tmp_path / "tuned", LLAMA_TARGETS)
    examples = [Message(role="system", content="Answer briefly, as somebody would who keeps owls and oxen on a farm.")]
    asked = [[*examples, *ask(text)] for text in ("Why?", "What does the owl eat, and who counts them? " * 12, "How many?")]
    rows = [Example(row=1, messages=[*ask("Why?"), Message(role="assistant", content="So.")])]
    job = make_job(tmp_path / "job", folder, train=rows, heldout=rows, dtype="bfloat16").read_job()
    answerer = Answerer(job, adapter, torch.device("cpu"), lambda: None)
    prompts = [answerer.renderer.encode_prompt(turns) for turns in asked]

    for tuned in (True, False):
        engine = Engine("cpu")
        said = [
            say(engine, bf16(command(folder, adapter if tuned else None, turns, max_new_tokens=40))).strip() for turns in asked
        ]
        assert answerer.answer(prompts, 40, tuned=tuned) == said
    assert answerer.answer(prompts, 40, tuned=True) != said
    assert max(map(len, prompts)) > PROMPT_TOKENS


def test_a_report_that_is_stopped_ends_in_the_middle_of_an_answer(folder: Path) -> None:
    calls = iter([None, None, None])

    with pytest.raises(StopIteration):
        write_answers(
            compile_(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)),
            [[3, 4, 5], [6, 7]],
            most_tokens=50,
            stop_ids=frozenset(),
            ranks=(0, 0),
            check=lambda: next(calls),
        )


@pytest.mark.parametrize(
    "changes",
    [{"hidden_size": 48}, {"head_dim": 16}, {"hidden_act": "gelu"}, {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}],
    ids=str,
)
def test_a_model_that_does_not_fit_is_left_to_its_own_code(changes: dict[str, Any]) -> None:
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, **changes})).to(torch.bfloat16)

    assert find_compiled(model) is None


def test_kernels_that_are_switched_off_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFINAGE_KERNELS", "off")
    load_library.cache_clear()
    try:
        assert find_compiled(make("llama")) is None
    finally:
        monkeypatch.undo()
        load_library.cache_clear()
