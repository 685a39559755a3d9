"""The tuned weights, one tensor at a time: stored base weights plus the adapter's product, summed in fp32.

Nothing is loaded as a model, so the sum is made on weights as they were published, in 16 or 32 bits, never on weights that
were packed into 4 bits for training. Memory holds one file's tensors.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from app.contracts.job import Lora
from app.core.errors import Invalid, ModelUnavailable, Unsupported
from app.export.rounding import Rounder
from app.training.lora import CONFIG_NAME, WEIGHTS_NAME

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
_PREFIX = "base_model.model."
_OPTIONAL_PREFIXES = ("", "transformer.", "model.")
"""GPT-2 as published names its tensors without the prefix that transformers' class gives them."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


class MergedWeights:
    """Every tensor of a base model folder, with an adapter folder's changes."""

    def __init__(self, base: Path, adapter: Path) -> None:
        """Read the names only. Raise ModelUnavailable, Invalid (another model's adapter)."""
        self.files = _weight_files(base)
        self._place = {name: file for file, names in self.files.items() for name in names}
        self._adapter = adapter / WEIGHTS_NAME
        config: dict[str, Any] = json.loads((adapter / CONFIG_NAME).read_text("utf-8"))
        self._lora = Lora(
            rank=config["r"],
            alpha=config["lora_alpha"],
            dropout=0.0,
            target_modules=list(config["target_modules"]),
            fan_in_fan_out=bool(config.get("fan_in_fan_out")),
            use_rslora=bool(config.get("use_rslora")),
            use_dora=bool(config.get("use_dora")),
        )
        self._changed = self._match()

    @property
    def names(self) -> list[str]:
        """Names of all tensors, in the order of the files."""
        return list(self._place)

    @property
    def changed(self) -> frozenset[str]:
        """Names of the tensors that the adapter changes."""
        return frozenset(self._changed)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's sizes without reading it."""
        with safe_open(self._place[name], framework="pt") as stored:
            return tuple(stored.get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """Return a tensor: as stored where nothing changes it, in fp32 where the adapter does."""
        with safe_open(self._place[name], framework="pt") as stored:
            weight: Tensor = stored.get_tensor(name)
        key = self._changed.get(name)
        if key is None:
            return weight
        if weight.dtype not in _FLOATS:
            raise Unsupported("merge_packed", tensor=name, dtype=str(weight.dtype).removeprefix("torch."))
        return self._summed(weight.float(), key, name)

    def read_as_stored(self, name: str, rounder: Rounder | None = None) -> Tensor:
        """Return a tensor in the precision of the base's file; what the adapter changes is rounded by `rounder`."""
        weight = self.read(name)
        if name not in self._changed:
            return weight
        with safe_open(self._place[name], framework="pt") as stored:
            dtype = _DTYPES[stored.get_slice(name).get_dtype()]
        if rounder is None:
            return weight.to(dtype)
        layer = self._changed[name].removeprefix(_PREFIX)
        if self._lora.fan_in_fan_out:
            return rounder.round(layer, weight.t(), dtype).t().contiguous()
        return rounder.round(layer, weight, dtype)

    @property
    def stored_dtypes(self) -> set[str]:
        """Precisions of the tensors that the adapter changes, as torch names them."""
        found = set()
        for name in self._changed:
            with safe_open(self._place[name], framework="pt") as stored:
                found.add(str(_DTYPES[stored.get_slice(name).get_dtype()]).removeprefix("torch."))
        return found

    def _summed(self, weight: Tensor, key: str, name: str) -> Tensor:
        """Return W + scale * B A, (out, in) or transposed; with DoRA each row brought to its trained length."""
        with safe_open(self._adapter, framework="pt") as stored:
            a, b = stored.get_tensor(f"{key}.lora_A.weight").float(), stored.get_tensor(f"{key}.lora_B.weight").float()
            lengths = stored.get_tensor(f"{key}.lora_magnitude_vector").float() if self._lora.use_dora else None
        change = b @ a * self._lora.scale
        rows = weight.t() if self._lora.fan_in_fan_out else weight
        if rows.shape != change.shape:
            raise Invalid("adapter_mismatch")
        summed = rows + change
        if lengths is not None:
            summed *= (lengths / summed.norm(dim=1)).unsqueeze(1)
        if not torch.isfinite(summed).all():
            raise Invalid("merge_not_finite", tensor=name)
        merged: Tensor = (summed.t() if self._lora.fan_in_fan_out else summed).contiguous()
        return merged

    def _match(self) -> dict[str, str]:
        """Map each base tensor that changes to the adapter's key. Raise Invalid when one has no base tensor."""
        with safe_open(self._adapter, framework="pt") as stored:
            keys = {key.removesuffix(".lora_A.weight") for key in stored.keys() if key.endswith(".lora_A.weight")}  # noqa: SIM118
        matched: dict[str, str] = {}
        for key in keys:
            name = f"{key.removeprefix(_PREFIX)}.weight"
            found = next((known for known in _spellings(name) if known in self._place), None)
            if found is None:
                raise Invalid("adapter_mismatch")
            matched[found] = key
        if not matched:
            raise Invalid("adapter_mismatch")
        return matched


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def write_merged(
    base: Path,
    adapter: Path,
    folder: Path,
    on_tensor: Callable[[], None] = lambda: None,
    *,
    rounder: Rounder | None = None,
    widen: bool = False,
) -> None:
    """Write the merged weights below `folder` with the base's file names, precisions and index. Raises OSError (disk full).

    Changed weights are rounded to the nearest number, or by `rounder`. With `widen` every weight is written in 32 bits: twice the
    size of 16, and nothing of the sum is rounded away.
    """
    from safetensors.torch import save_file

    weights = MergedWeights(base, adapter)
    for file, names in weights.files.items():
        tensors = {}
        for name in names:
            on_tensor()
            tensor = weights.read(name).float() if widen else weights.read_as_stored(name, rounder)
            tensors[name] = tensor.contiguous()
        save_file(tensors, folder / file.name, metadata={"format": "pt"})
    if (base / INDEX_NAME).is_file():
        (folder / INDEX_NAME).write_bytes((base / INDEX_NAME).read_bytes())


def _weight_files(base: Path) -> dict[Path, list[str]]:
    """Return the base's safetensors files with the names of their tensors."""
    if (base / SINGLE_NAME).is_file():
        files = [base / SINGLE_NAME]
    elif (base / INDEX_NAME).is_file():
        index: dict[str, str] = json.loads((base / INDEX_NAME).read_text("utf-8"))["weight_map"]
        files = [base / name for name in dict.fromkeys(index.values())]
    else:
        raise ModelUnavailable("folder_incomplete", path=str(base), missing=SINGLE_NAME)
    names: dict[Path, list[str]] = {}
    for file in files:
        with safe_open(file, framework="pt") as stored:
            names[file] = list(stored.keys())
    return names


def _spellings(name: str) -> Iterator[str]:
    """Yield the names under which a published file may hold the tensor that transformers calls `name`."""
    yield name
    for prefix in _OPTIONAL_PREFIXES[1:]:
        if name.startswith(prefix):
            yield name.removeprefix(prefix)
        else:
            yield prefix + name
