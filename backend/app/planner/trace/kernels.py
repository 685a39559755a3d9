"""What a device would run where the `meta` device runs something else, by shape only.

PyTorch chooses attention kernels by device, and CUDA fuses what `meta` spells out. While `as_on` is active, the calls
below take the way they take on the device that is planned for.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
import transformers.masking_utils
from torch import Tensor
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from app.contracts.hardware import DeviceKind
from app.planner.trace.stream import Recorder

AttentionKernel = Literal["flash", "efficient", "processor"]
FLASH_WIDTH = 256
"""Largest head size of the flash kernel."""

aten = torch.ops.aten
_softmax = F.softmax


def choose_kernel(device: DeviceKind, compute_capability: int, query: Tensor, mask: Tensor | None) -> AttentionKernel:
    """Return what `scaled_dot_product_attention` runs: flash from compute capability 8 on, in 16 bits, without a mask."""
    if device == "cpu":
        return "processor"
    flash = compute_capability >= 8 and query.element_size() == 2 and mask is None and query.shape[-1] <= FLASH_WIDTH
    return "flash" if flash else "efficient"


@contextmanager
def as_on(device: DeviceKind, compute_capability: int) -> Iterator[None]:
    """Compute on `meta` with the operations of this device."""

    def attend(  # noqa: PLR0917  torch's signature
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,  # noqa: ARG001  told by the shapes
    ) -> Tensor:
        kernel = choose_kernel(device, compute_capability, query, attn_mask)
        if kernel == "efficient" and key.shape[-3] != query.shape[-3]:
            # Only the flash kernels share keys between heads.
            groups = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(groups, dim=-3), value.repeat_interleave(groups, dim=-3)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.where(attn_mask, 0.0, float("-inf")).to(query.dtype)
        if kernel == "flash":
            return _first(aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale))
        if kernel == "efficient":
            bias = None if attn_mask is None else attn_mask.expand(*query.shape[:-1], key.shape[-2])
            return _first(
                aten._scaled_dot_product_efficient_attention(query, key, value, bias, True, dropout_p, is_causal, scale=scale)
            )
        return _first(
            aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
            )
        )

    with ExitStack() as stack:
        stack.enter_context(replaced(F, "scaled_dot_product_attention", attend))
        # Looks into the positions for packed rows: a plain batch has none, and `meta` has nothing to look into.
        stack.enter_context(replaced(transformers.masking_utils, "find_packed_sequence_indices", lambda _: None))
        if device == "cuda":
            stack.enter_context(replaced(F, "softmax", _softmax_on_cuda))
            stack.enter_context(replaced(F, "dropout", _dropout_on_cuda))
        yield


@contextmanager
def replaced(module: Any, name: str, value: object) -> Iterator[None]:
    """Let `module.name` be `value` inside the block."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _first(outputs: tuple[Tensor, ...]) -> Tensor:
    return outputs[0]


def _softmax_on_cuda(
    input: Tensor,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> Tensor:
    if input.dtype == torch.half and dtype == torch.float32 and dim is not None:
        fused: Tensor = aten._softmax(input, dim, True)  # One kernel, for float16 only: no 32-bit copy of the input.
        return fused
    return _softmax(input, dim=dim, dtype=dtype)


def _dropout_on_cuda(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,  # noqa: ARG001
) -> Tensor:
    """One kernel with a mask of one byte; elsewhere the mask has the input's type."""
    return aten.native_dropout(input, p, True)[0] if training and p > 0 else input


class Unpacking:
    """Tells whoever records that a 4-bit matrix is unpacked: the memory is workspace, the work is counted apart."""

    recorder: Recorder | None = None

    @contextmanager
    def note(self, weights: int) -> Iterator[None]:
        """`weights` entries are unpacked inside the block: half a byte of each is read, two bytes are written."""
        recorder = self.recorder
        if recorder is None:
            yield
            return
        before, recorder.purpose = recorder.purpose, "workspace"
        recorder.count_unpacking(2.5 * weights)
        yield
        recorder.purpose = before


class _UnpackedProduct(torch.autograd.Function):
    """x W^T + bias with W unpacked for the product and again for the gradient; x is not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: "PackedLinear", bias: Tensor | None) -> Tensor:
        ctx.linear = linear
        return F.linear(x, linear.unpack(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        linear: PackedLinear = ctx.linear
        return grads[0] @ linear.unpack(grads[0].dtype), None, None


class PackedLinear(torch.nn.Linear):
    """bitsandbytes' 4-bit linear layer (0.50) by its sizes: two weights a byte, one scale for 64 of them."""

    def __init__(  # noqa: PLR0917
        self,
        inputs: int,
        outputs: int,
        bias: Tensor | None,
        compute_dtype: torch.dtype,
        double_quant: bool,
        unpacking: Unpacking,
    ) -> None:
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features = inputs, outputs
        self.compute_dtype, self.unpacking = compute_dtype, unpacking
        count = inputs * outputs
        blocks = -(-count // 64)
        packed = torch.empty((count + 1) // 2, 1, dtype=torch.uint8, device="meta")
        self.weight = torch.nn.Parameter(packed, requires_grad=False)
        self.double_quant = double_quant
        if double_quant:
            self.scales = torch.empty(blocks, dtype=torch.uint8, device="meta")
            self.scale_scales = torch.empty(-(-blocks // 256), device="meta")
            self.scale_code = torch.empty(256, device="meta")
            self.offset = torch.empty((), device="meta")
        else:
            self.scales = torch.empty(blocks, device="meta")
        self.code = torch.empty(16, device="meta")
        self.register_parameter("bias", bias)  # type: ignore[arg-type]

    def list_tensors(self) -> list[Tensor]:
        """Return what the layer holds on the device."""
        tensors = [self.weight, self.scales, self.code]
        if self.double_quant:
            tensors += [self.scale_scales, self.scale_code, self.offset]
        return tensors if self.bias is None else [*tensors, self.bias]

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """Return the whole matrix, as the product takes it."""
        with self.unpacking.note(self.in_features * self.out_features):
            if self.double_quant:
                scales = torch.empty(self.scales.numel(), device="meta")
                del scales
            return torch.empty(self.out_features, self.in_features, dtype=dtype, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + bias in the type of x, computed in the layer's own."""
        given = x.dtype
        x = x.to(self.compute_dtype)
        if self.bias is not None and self.bias.dtype != x.dtype:
            self.bias.data = self.bias.data.to(x.dtype)  # For good: the wider copy is given back here.
        product: Tensor = _UnpackedProduct.apply(x, self, self.bias)  # type: ignore[no-untyped-call]
        return product.to(given)


def pack_linears(
    model: torch.nn.Module, skipped: Collection[str], compute_dtype: torch.dtype, *, double_quant: bool
) -> Unpacking:
    """Replace every linear layer of `model` but those named in `skipped`, as transformers does for NF4.

    Set `recorder` of what is returned to whoever records.
    """
    unpacking = Unpacking()
    for name, module in list(model.named_modules()):
        if name in skipped or not (type(module) is torch.nn.Linear or isinstance(module, Conv1D)):
            continue
        inputs, outputs = module.weight.shape if isinstance(module, Conv1D) else reversed(module.weight.shape)
        packed = PackedLinear(inputs, outputs, module.bias, compute_dtype, double_quant, unpacking)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, packed)
    return unpacking


def find_heads(model: torch.nn.Module) -> set[str]:
    """Return the names of the output head, which transformers leaves as it is."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    return {name for name, module in model.named_modules() if module is head}


def list_held(model: torch.nn.Module) -> list[Tensor]:
    """Return every tensor that the frozen model keeps on the device."""
    held: list[Tensor] = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        if isinstance(module, PackedLinear):
            held += module.list_tensors()
    return held
