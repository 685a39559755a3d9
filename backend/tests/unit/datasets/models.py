"""Tokenizers and chat templates that the tests of this folder use: real ones, small, made on the spot."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The reset code of the sensor is 4471. Hold the button for ten seconds.",
    "Le code de réinitialisation du capteur est 4471. Appuyez dix secondes sur le bouton.",
    "user assistant system question answer q0 a0 s0 t0 INST SYS start_of_turn model",
    "### Instruction:\n### Response:\n### Result:\n",
] * 20

LLAMA2_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)

QWEN_TEMPLATE = (
    "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {%- if message.role == 'assistant' %}\n"
    "        {{- '<|im_start|>assistant\\n' }}{% generation %}{{- message.content + '<|im_end|>' }}"
    "{% endgeneration %}{{- '\\n' }}\n"
    "    {%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

GEMMA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)

MISTRAL_TEMPLATE = (
    "{{- bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + '[/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)

THINKING_TEMPLATE = (
    "{%- for message in messages %}"
    "{%- if message.role == 'assistant' and not loop.last and '</think>' in message.content %}"
    "{{- '<|im_start|>assistant\\n' + message.content.split('</think>')[-1] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""Drops the reasoning of earlier turns, as DeepSeek-R1's and Qwen3's templates do."""

OPENED_THINKING_TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
)
"""Its generation prompt says more than its rendering of an answer, as Qwen3 without thinking."""


def byte_level_tokenizer(specials: list[str]) -> Tokenizer:
    """Byte-level BPE as in GPT-2, Qwen, SmolLM."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece_tokenizer(specials: list[str], *, legacy: bool, dummy_space: bool = True) -> Tokenizer:
    """BPE with spaces written as U+2581 and byte fallback, as in Llama 2, Mistral and Gemma (no dummy space)."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if legacy:
        steps = [normalizers.Prepend("▁")] if dummy_space else []
        tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if dummy_space else "never", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    words = pre_tokenizers.Metaspace(prepend_scheme="always" if dummy_space else "never")
    corpus = [word for line in CORPUS for word, _ in words.pre_tokenize_str(line.replace("\n", " "))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<unk>", *specials, *bytes_], show_progress=False)
    plain = Tokenizer(models.BPE(unk_token="<unk>"))
    plain.train_from_iterator(corpus, trainer)
    learned = json.loads(plain.to_str())["model"]
    tokenizer.model = models.BPE(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        byte_fallback=True,
        unk_token="<unk>",
        fuse_unk=True,
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ["<unk>", *specials]])
    if "<s>" in specials:
        start = tokenizer.token_to_id("<s>")
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    return tokenizer


def save_model(folder: Path, tokenizer: Tokenizer, template: str | None, **special_tokens: str) -> Path:
    """Write a model folder as far as the renderer reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **special_tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    return folder


CHATML = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
SENTENCEPIECE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def chatml_model(folder: Path, template: str = QWEN_TEMPLATE) -> Path:
    """A small model folder in the manner of Qwen."""
    return save_model(folder, byte_level_tokenizer(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]), template, **CHATML)


def llama2_model(folder: Path, *, legacy: bool, template: str = LLAMA2_TEMPLATE) -> Path:
    """A small model folder in the manner of Llama 2 or Mistral."""
    return save_model(folder, sentencepiece_tokenizer(["<s>", "</s>"], legacy=legacy), template, **SENTENCEPIECE)


def gemma_model(folder: Path) -> Path:
    """A small model folder in the manner of Gemma: no system role, an end-of-turn token that is not the end token."""
    specials = ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer = sentencepiece_tokenizer(specials, legacy=True, dummy_space=False)
    return save_model(folder, tokenizer, GEMMA_TEMPLATE, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
