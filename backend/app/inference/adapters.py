"""Several adapters beside one base model: each row of a batch is answered with its own, or with none.

Every layer that some adapter changes is wrapped once (`AdaptedLayer`). For one step it is told who sits in the batch; it
computes the frozen product for all rows together and adds each row's own low-rank product. The A and B of all adapters in
the batch stand beside each other in one pair of matrices, and a row's factors for other adapters are set to zero: two
products, however many adapters there are. Rows with DoRA, which rescales the whole layer, are computed by themselves.
The same idea with one kernel per shape: Punica (Chen et al. 2023, arXiv 2310.18547).
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.contracts.job import Lora
from app.core.errors import ModelUnavailable
from app.storage import checkpoint_dir
from app.training.lora import WEIGHTS_NAME, LoraLayer, attach, load_adapter, load_tensors

KEPT = 16
"""Adapters that stay loaded; of more, those that were used longest ago go."""

AdapterKey = tuple[str, int]
"""Folder of an adapter, and the time its weights were written (ns): one that was trained again is another one."""


@dataclass(frozen=True)
class _Stack:
    """The adapters of a batch in one layer."""

    a: Tensor
    """(sum of ranks, inputs)"""
    b: Tensor
    """(outputs, sum of ranks), with each adapter's scale multiplied in"""
    own: Tensor
    """(rows, 1, sum of ranks): 1 where the factor belongs to the row's adapter"""
    resized: list[tuple[LoraLayer, Tensor]]
    """Adapters with DoRA, each with its rows"""


@dataclass(frozen=True)
class _Shared:
    """One adapter for all rows: computed as in training, in one function."""

    layer: LoraLayer


class AdaptedLayer(nn.Module):
    """A frozen linear layer and what each adapter adds to it. Without seats it computes as the original model."""

    def __init__(self, wrapped: nn.Module) -> None:
        super().__init__()
        self.wrapped = wrapped
        self.layers: dict[AdapterKey, LoraLayer] = {}
        self._stack: _Stack | _Shared | None = None

    def seat(self, seats: Sequence[AdapterKey | None]) -> None:
        """Say whose rows come next, one seat a row."""
        keys = [key for key in dict.fromkeys(seats) if key is not None and key in self.layers]
        if not keys:
            self._stack = None
        elif len(keys) == 1 and all(seat == keys[0] for seat in seats):
            self._stack = _Shared(self.layers[keys[0]])
        else:
            self._stack = self._stacked(keys, seats)

    def _stacked(self, keys: list[AdapterKey], seats: Sequence[AdapterKey | None]) -> _Stack:
        plain = [key for key in keys if self.layers[key].lora_magnitude is None]
        first = self.layers[keys[0]]
        resized = [
            (self.layers[key], torch.tensor([row for row, seat in enumerate(seats) if seat == key], device=first.lora_A.device))
            for key in keys
            if self.layers[key].lora_magnitude is not None
        ]
        ranks = [self.layers[key].lora_A.shape[0] for key in plain]
        owners = [key for key, rank in zip(plain, ranks, strict=True) for _ in range(rank)]
        own = torch.tensor([[[owner == seat for owner in owners]] for seat in seats], dtype=torch.float32)
        return _Stack(
            a=torch.cat([first.lora_A[:0], *(self.layers[key].lora_A for key in plain)]),
            b=torch.cat([first.lora_B[:, :0], *(self.layers[key].lora_B * self.layers[key].scale for key in plain)], 1),
            own=own.to(first.lora_A.device, first.lora_A.dtype),
            resized=resized,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output; `x` has one row a seat, (rows, tokens, inputs)."""
        stack = self._stack
        if stack is None:
            return self.wrapped(x)  # type: ignore[no-any-return]
        if isinstance(stack, _Shared):
            return stack.layer(x)  # type: ignore[no-any-return]
        y: Tensor = self.wrapped(x)
        if stack.a.shape[0]:
            low = F.linear(x, stack.a.to(x.dtype)) * stack.own.to(x.dtype)
            y = y + F.linear(low, stack.b.to(x.dtype)).to(y.dtype)
        for layer, rows in stack.resized:
            y = y.index_copy(0, rows, layer(x[rows]).to(y.dtype))
        return y


class Adapters:
    """The adapters that are loaded beside one base model."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers: dict[str, AdaptedLayer] = {}
        self._loaded: OrderedDict[AdapterKey, None] = OrderedDict()
        self._seats: list[AdapterKey | None] = []

    def load(self, adapter_path: str, lora: Lora | None, in_use: Sequence[AdapterKey | None]) -> AdapterKey:
        """Return the key of the adapter in a folder, read from the disk unless it is here.

        Raise ModelUnavailable without its files, Invalid or Unsupported when it does not belong to this model.
        """
        folder = Path(adapter_path)
        file = folder / (WEIGHTS_NAME if lora is None else checkpoint_dir.ADAPTER)
        try:
            key = (adapter_path, file.stat().st_mtime_ns)
        except FileNotFoundError as error:
            raise ModelUnavailable("adapter_missing", path=adapter_path) from error
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return key
        self._read(key, folder, lora)
        self._loaded[key] = None
        for old in list(self._loaded):
            same_folder = old != key and old[0] == adapter_path
            if old not in in_use and (same_folder or len(self._loaded) > KEPT) and old != key:
                self._forget(old)
        return key

    def seat(self, seats: list[AdapterKey | None]) -> None:
        """Say which adapter each row of the next step is answered with. Cheap where nothing changes."""
        if seats != self._seats:
            for layer in self._layers.values():
                layer.seat(seats)
            self._seats = list(seats)

    def list_layers(self) -> list[AdaptedLayer]:
        """Return the layers that some adapter changes."""
        return list(self._layers.values())

    def get_layers(self, key: AdapterKey) -> dict[str, LoraLayer]:
        """Return an adapter's layers by the names of those that they change."""
        return {name: layer.layers[key] for name, layer in self._layers.items() if key in layer.layers}

    def _read(self, key: AdapterKey, folder: Path, lora: Lora | None) -> None:
        """Attach the adapter to the bare model as training does, keep its layers, and wrap again."""
        self._unwrap()
        try:
            try:
                if lora is None:
                    load_adapter(self._model, folder)
                else:
                    attach(self._model, lora)
                    load_tensors(self._model, folder / checkpoint_dir.ADAPTER)
            except FileNotFoundError as error:  # removed while we read it
                raise ModelUnavailable("adapter_missing", path=str(folder)) from error
            found = [(name, module) for name, module in self._model.named_modules() if isinstance(module, LoraLayer)]
            dtype = next(self._model.parameters()).dtype
            for name, layer in found:
                # Cast once instead of at every token; the layers cast to the activations' precision anyway.
                layer.lora_A.data, layer.lora_B.data = layer.lora_A.data.to(dtype), layer.lora_B.data.to(dtype)
                layer.eval().requires_grad_(False)
                self._layers.setdefault(name, AdaptedLayer(layer.wrapped)).layers[key] = layer
        finally:
            for name, module in [(name, module) for name, module in self._model.named_modules() if isinstance(module, LoraLayer)]:
                _put(self._model, name, module.wrapped)
            self._wrap()

    def _forget(self, key: AdapterKey) -> None:
        del self._loaded[key]
        for layer in self._layers.values():
            layer.layers.pop(key, None)

    def _wrap(self) -> None:
        for name, layer in self._layers.items():
            layer.eval()
            layer.seat(self._seats)
            _put(self._model, name, layer)

    def _unwrap(self) -> None:
        for name, layer in self._layers.items():
            _put(self._model, name, layer.wrapped)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
