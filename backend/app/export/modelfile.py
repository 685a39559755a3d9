"""A Modelfile, from which Ollama makes a model with `ollama create`: the file, the template of training, where answers stop."""

from pathlib import Path

from transformers import AutoConfig

from app.datasets.render import Renderer
from app.datasets.template import ChatTemplate
from app.datasets.tokenizer_files import load_tokenizer_files
from app.export.gguf_vocabulary import starts_with_bos, written_template
from app.export.turns import find_turns

USUAL_CONTEXT = 4096
"""Tokens of a conversation that Ollama makes room for where nothing is said (its FAQ)."""


def make_modelfile(base: Path, gguf_name: str, trained: int) -> str | None:
    """Return the text; None where the template cannot be written in Ollama's language.

    `trained` is the longest row that was trained, in tokens. A conversation may be longer where the model knows more.
    """
    files = load_tokenizer_files(base)
    template = ChatTemplate(written_template(files), files.special_tokens)
    turns = find_turns(template, files.special_tokens.get("bos_token") if starts_with_bos(files) else None)
    if turns is None:
        return None
    stops = {files.tokenizer.id_to_token(token) for token in Renderer.load(base).stop_ids}
    known: int = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False).max_position_embeddings
    lines = [
        f"FROM ./{gguf_name}",
        f'TEMPLATE """{turns.go_template()}"""',
        *(f'PARAMETER stop "{stop}"' for stop in sorted(stop for stop in stops if stop and '"' not in stop)),
        f"PARAMETER num_ctx {max(trained, min(known, USUAL_CONTEXT))}",
        "PARAMETER temperature 0",
    ]
    return "\n".join(lines) + "\n"
