"""Answers that are written at the same time, against the same answers written alone and against PEFT's own mixed batches."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from app.contracts.chat import ChatDelta, GenerateCommand
from app.contracts.dataset import Message
from app.contracts.job import Lora
from app.core.errors import ModelUnavailable
from app.datasets.render import Renderer
from app.inference import adapters as adapters_module
from app.inference import engine as engine_module
from app.inference.engine import Engine
from app.inference.stops import StopGuard
from app.storage import checkpoint_dir
from app.training.lora import WEIGHTS_NAME
from tests.engine.test_inference import command, load, never, say, write_adapter
from tests.engine.tiny import GPT2_TARGETS, LLAMA_TARGETS

QUESTIONS = ["What does the owl eat?", "Hi", "How many cats and oxen live on the farm behind the hill?", "Why?"]


def ask(question: str) -> list[Message]:
    return [Message(role="user", content=question)]


def say_together(engine: Engine, asked: list[GenerateCommand], apart: int = 0) -> list[str]:
    """The answers of commands that begin `apart` steps after each other."""
    deltas: dict[int, list[ChatDelta]] = {}
    names: dict[Any, int] = {}
    waiting = list(enumerate(asked))
    steps = 0
    while waiting or any(not deltas[place][-1].finished for place in names.values()):
        while waiting and steps >= waiting[0][0] * apart:
            place, next_command = waiting.pop(0)
            assert engine.can_join(next_command)
            names[engine.start(next_command, never)] = place
            deltas[place] = [ChatDelta(target="")]
        for answer, delta in engine.step():
            deltas[names[answer]].append(delta)
        steps += 1
    return ["".join(delta.delta for delta in deltas[place]) for place in range(len(asked))]


def write_dora(model: Path, folder: Path) -> Path:
    """An adapter with DoRA, written by PEFT."""
    config = LoraConfig(r=3, lora_alpha=6, target_modules=LLAMA_TARGETS, use_dora=True, task_type="CAUSAL_LM")
    tuned = get_peft_model(load(model), config)
    torch.manual_seed(9)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                parameter.normal_(std=0.2)
    tuned.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("name", "targets", "apart"), [("llama", LLAMA_TARGETS, 0), ("gpt2", GPT2_TARGETS, 3)])
def test_answers_written_together_equal_those_written_alone(
    name: str, targets: list[str], apart: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    first, second = (write_adapter(folder, tmp_path / str(seed), targets, seed) for seed in (1, 2))
    asked = [
        command(folder, adapter, ask(question), max_new_tokens=8 + 5 * place)
        for place, (adapter, question) in enumerate(zip([first, None, second, first], QUESTIONS, strict=True))
    ]

    together = say_together(Engine("cpu"), asked, apart)

    alone = [say(Engine("cpu"), each) for each in asked]
    assert together == alone
    assert len(set(alone)) == len(alone)


def test_a_batch_with_two_adapters_and_the_original_equals_pefts_mixed_batch(llama: Path, tmp_path: Path) -> None:
    first, second = (write_adapter(llama, tmp_path / str(seed), LLAMA_TARGETS, seed) for seed in (1, 2))
    model = PeftModel.from_pretrained(load(llama), first, adapter_name="first")
    model.load_adapter(second, "second")
    renderer = Renderer.load(llama)
    prompts = [renderer.encode_prompt(ask(question)) for question in QUESTIONS[:3]]
    longest = max(map(len, prompts))
    with torch.no_grad():
        rows = model.eval().generate(
            input_ids=torch.tensor([[renderer.pad_id] * (longest - len(prompt)) + prompt for prompt in prompts]),
            attention_mask=torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]),
            adapter_names=["second", "__base__", "first"],
            max_new_tokens=16,
            do_sample=False,
            eos_token_id=sorted(renderer.stop_ids),
            pad_token_id=renderer.pad_id,
        )
    expected = [renderer.decode(row[longest:].tolist()) for row in rows]

    asked = [
        command(llama, adapter, ask(question), max_new_tokens=16)
        for adapter, question in zip([second, None, first], QUESTIONS[:3], strict=True)
    ]

    assert say_together(Engine("cpu"), asked) == expected


def test_dora_beside_plain_adapters_and_the_original(llama: Path, tmp_path: Path) -> None:
    dora, plain = write_dora(llama, tmp_path / "dora"), write_adapter(llama, tmp_path / "plain", LLAMA_TARGETS)
    asked = [
        command(llama, adapter, ask(question), max_new_tokens=12)
        for adapter, question in zip([dora, plain, None, dora], QUESTIONS, strict=True)
    ]

    assert say_together(Engine("cpu"), asked) == [say(Engine("cpu"), each) for each in asked]


def test_a_seed_gives_the_same_answer_in_company(llama: Path) -> None:
    asked = [command(llama, None, ask(question), temperature=1.3, seed=5) for question in QUESTIONS]

    assert say_together(Engine("cpu"), asked, apart=2) == [say(Engine("cpu"), each) for each in asked]


def test_another_model_waits_until_the_answers_have_ended(llama: Path, gpt2: Path) -> None:
    engine = Engine("cpu")
    engine.start(command(llama, max_new_tokens=2), never)

    assert engine.can_join(command(llama))
    assert not engine.can_join(command(gpt2))
    while not all(delta.finished for _, delta in engine.step() or [(None, ChatDelta(target=""))]):
        pass
    assert engine.can_join(command(gpt2))


def test_room_is_limited_and_an_answer_that_is_dropped_gives_its_place_back(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MOST_ANSWERS", 2)
    engine = Engine("cpu")
    running = [engine.start(command(llama, temperature=5.0, max_new_tokens=500), never) for _ in range(2)]
    engine.step()

    assert not engine.can_join(command(llama))
    engine.drop(running[0])
    assert engine.can_join(command(llama))
    assert {answer for answer, _ in engine.step()} <= {running[1]}


def test_a_checkpoint_answers_as_its_adapter(llama: Path, tmp_path: Path) -> None:
    adapter = write_adapter(llama, tmp_path / "adapter", LLAMA_TARGETS)
    checkpoint = tmp_path / "checkpoint-8"
    checkpoint.mkdir()
    (checkpoint / checkpoint_dir.ADAPTER).write_bytes((adapter / WEIGHTS_NAME).read_bytes())
    lora = Lora(rank=4, alpha=12, dropout=0.0, target_modules=LLAMA_TARGETS, fan_in_fan_out=False)
    engine = Engine("cpu")

    asked = command(llama, checkpoint).model_copy(update={"lora": lora})

    assert say(engine, asked) == say(engine, command(llama, adapter)) != say(engine, command(llama))
    with pytest.raises(ModelUnavailable) as caught:
        say(engine, asked.model_copy(update={"adapter_path": str(tmp_path / "checkpoint-9")}))
    assert caught.value.key == "model_unavailable.adapter_missing"


def test_adapters_that_were_used_longest_ago_are_let_go(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters_module, "KEPT", 2)
    folders = [write_adapter(llama, tmp_path / str(seed), LLAMA_TARGETS, seed) for seed in (1, 2, 3)]
    engine = Engine("cpu")
    before = [say(engine, command(llama, folder)) for folder in folders]
    assert engine._resident is not None

    kept = {key[0] for layer in engine._resident.adapters.list_layers() for key in layer.layers}

    assert kept == {str(folders[1]), str(folders[2])}
    assert [say(engine, command(llama, folder)) for folder in folders] == before


def test_a_plain_prompt_is_continued_without_the_chat_template(llama: Path) -> None:
    asked = command(llama).model_copy(update={"messages": [], "prompt": "The owl eats"})
    renderer = Renderer.load(llama)
    prompt = renderer.encode_text("The owl eats")
    assert renderer.decode(prompt, False) == "The owl eats"
    with torch.no_grad():
        ids = AutoModelForCausalLM.from_pretrained(llama).generate(
            torch.tensor([prompt]),
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=sorted(renderer.stop_ids),
            pad_token_id=renderer.pad_id,
        )[0, len(prompt) :]

    assert say(Engine("cpu"), asked) == renderer.decode(ids.tolist())


def test_an_answer_ends_before_a_stop_text(llama: Path) -> None:
    whole = say(Engine("cpu"), command(llama))
    stop = whole[7:10]

    deltas = list(Engine("cpu").answer(command(llama, stop=[stop, "never said"]), never))

    assert "".join(delta.delta for delta in deltas) == whole[: whole.index(stop)]
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_no_piece_of_a_stop_text_is_ever_given_out(size: int) -> None:
    text = "one END two ENDS three EN ENDED four"
    guard = StopGuard(["ENDED", "never"])

    pieces = [guard.push(text[start : start + size]) for start in range(0, len(text), size)]

    assert "".join(pieces) + guard.flush() == "one END two ENDS three EN "
    assert guard.reached


def test_what_only_looked_like_a_stop_text_is_given_out_at_the_end() -> None:
    guard = StopGuard(["\n\nUser:"])

    assert guard.push("yes\n\nUse") + guard.flush() == "yes\n\nUse"
    assert not guard.reached


def test_the_length_is_told_as_the_reason_and_the_prompt_is_counted(llama: Path) -> None:
    deltas = list(Engine("cpu").answer(command(llama, max_new_tokens=3), never))

    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].tokens == 3
    assert deltas[-1].prompt_tokens == len(Renderer.load(llama).encode_prompt(command(llama).messages))


def test_log_probabilities_are_those_of_the_model(llama: Path) -> None:
    deltas = list(Engine("cpu").answer(command(llama, max_new_tokens=6, logprobs=3, temperature=2.0, seed=4), never))
    told = [likelihood for delta in deltas for likelihood in delta.likelihoods]
    renderer = Renderer.load(llama)
    text = "".join(delta.delta for delta in deltas)
    prompt = renderer.encode_prompt(command(llama).messages)
    with torch.no_grad():
        scores = AutoModelForCausalLM.from_pretrained(llama)(torch.tensor([prompt])).logits[0, -1]
    first = torch.log_softmax(scores.float(), -1)

    assert len(told) == deltas[-1].tokens
    assert text.startswith(told[0].text)
    assert told[0].top[0].logprob == pytest.approx(float(first.max()), abs=1e-4)
    assert [likely.text for likely in told[0].top] == [
        renderer.decode([token], False) for token in first.topk(3).indices.tolist()
    ]
    for likelihood in told:
        assert len(likelihood.top) == 3
        assert likelihood.logprob <= likelihood.top[0].logprob
        assert sum(math.exp(likely.logprob) for likely in likelihood.top) <= 1 + 1e-6


def test_penalties_keep_an_answer_from_repeating_itself(llama: Path) -> None:
    def most_said(**generation: Any) -> int:
        deltas = list(Engine("cpu").answer(command(llama, max_new_tokens=60, logprobs=0, **generation), never))
        texts = [likelihood.text for delta in deltas for likelihood in delta.likelihoods]
        return max(texts.count(text) for text in texts)

    assert most_said(frequency_penalty=2.0) < most_said()
