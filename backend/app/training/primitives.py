"""The passes over activations between the matrix products of a step on a processor.

Each is one kernel of native/ where that was compiled and the arrays are float32 or bfloat16, else the same formula
in PyTorch's operators. The kernels are operations of PyTorch (`torch.ops.affinage`) that do nothing on `meta`, where the
planner traces: all arrays are made here, where it sees them.

Shapes: T tokens, H width, B rows of a micro-batch, L length of the longest, D size of a head. A `Layout` says where packed
tokens stand in rows; without one token and place are the same. Array arguments are contiguous but for gradients, whose rows
may be wider than what is read of them.
"""

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from app.training.batching import Layout
from app.training.native.build import load_library
from app.training.precision import widen

_SUFFIXES = {torch.bfloat16: "bf16", torch.float32: "fp32"}
_operations = torch.library.Library("affinage", "DEF")  # type: ignore[no-untyped-call]


def takes_kernels(x: Tensor) -> bool:
    """Return whether arrays like `x` go through the compiled kernels."""
    return x.dtype in _SUFFIXES and x.device.type in ("cpu", "meta") and load_library() is not None


def _kernel(arguments: str) -> Callable[[Callable[..., tuple[Any, ...]]], Any]:
    """Make an operation of a function from its arguments to those of the kernel of the same name."""

    def register(describe: Callable[..., tuple[Any, ...]]) -> Any:
        name = describe.__name__.lstrip("_")
        functions: dict[torch.dtype, Any] = {}

        def run(*given: Any) -> None:
            kind = given[0].dtype
            function = functions.get(kind)
            if function is None:
                function = functions[kind] = getattr(load_library(), f"{name}_{_SUFFIXES[kind]}")
                function.restype = None
            function(*map(_as_c, describe(*given)))

        _operations.define(f"{name}({arguments}) -> ()")  # type: ignore[no-untyped-call]
        _operations.impl(name, run, "CPU")  # type: ignore[no-untyped-call]
        _operations.impl(name, lambda *_: None, "Meta")  # type: ignore[no-untyped-call]
        return getattr(torch.ops.affinage, name).default

    return register


def _as_c(value: Tensor | int | float | None) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_void_p(None) if value is None else ctypes.c_int64(value)


# ---- norms -----------------------------------------------------------------------------------------------------------------
@_kernel("Tensor x, Tensor weight, float eps, Tensor(a!) out, Tensor(b!) rstd")
def _rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor, rstd: Tensor) -> tuple[Any, ...]:
    return *x.shape, x, weight, eps, out, out.stride(0), rstd


@_kernel("Tensor grad, Tensor x, Tensor weight, Tensor rstd, Tensor residual, Tensor(a!) out")
def _rms_norm_backward(  # noqa: PLR0917
    grad: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, residual: Tensor, out: Tensor
) -> tuple[Any, ...]:
    return *x.shape, grad, grad.stride(0), x, weight, rstd, residual, out


@_kernel("Tensor x, Tensor weight, Tensor bias, float eps, Tensor(a!) out, Tensor(b!) moments")
def _layer_norm(  # noqa: PLR0917
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, out: Tensor, moments: Tensor
) -> tuple[Any, ...]:
    return *x.shape, x, weight, bias, eps, out, out.stride(0), moments


@_kernel("Tensor grad, Tensor x, Tensor weight, Tensor moments, Tensor residual, Tensor(a!) out")
def _layer_norm_backward(  # noqa: PLR0917
    grad: Tensor, x: Tensor, weight: Tensor, moments: Tensor, residual: Tensor, out: Tensor
) -> tuple[Any, ...]:
    return *x.shape, grad, grad.stride(0), x, weight, moments, residual, out


def norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, room: int) -> tuple[Tensor, Tensor]:
    """Return the normalised x in the first columns of (T, H + room), the rest empty, and what `norm_backward` needs of it.

    Without `bias` it is the RMS norm (Zhang and Sennrich 2019, arXiv 1910.07467), with one the layer norm (Ba et al. 2016, arXiv
    1607.06450).
    """
    tokens, width = x.shape
    out = x.new_empty(tokens, width + room)
    if takes_kernels(x):
        moments = torch.empty(tokens, 1 if bias is None else 2, dtype=torch.float32, device=x.device)
        if bias is None:
            _rms_norm(x, weight, eps, out, moments)
        else:
            _layer_norm(x, weight, bias, eps, out, moments)
        return out, moments
    full = widen(x)
    if bias is None:
        rstd = torch.linalg.vector_norm(full, dim=-1, keepdim=True).square_().div_(width).add_(eps).rsqrt_()
        scaled = full * rstd if full is x else full.mul_(rstd)
        out[:, :width] = scaled.mul_(widen(weight))
        return out, rstd
    normed, mean, rstd = torch.native_layer_norm(full, [width], widen(weight), widen(bias), eps)
    out[:, :width] = normed
    return out, torch.cat([mean, rstd], 1)


def norm_backward(grad: Tensor, x: Tensor, weight: Tensor, moments: Tensor, residual: Tensor) -> Tensor:
    """Return `residual` plus the gradient of x, (T, H), from the gradient of the normalised x, (T, at least H).

    RMS norm: y = w x r with r = (mean(x^2) + eps)^-1/2, so dx = r (w dy) - x r^3 / H * sum(w dy x).
    Layer norm: y = w x' + b with x' = (x - mean) r, so dx = r (w dy - mean(w dy) - x' mean(w dy x')).
    """
    out = torch.empty_like(x)
    if takes_kernels(x):
        backward = _rms_norm_backward if moments.shape[1] == 1 else _layer_norm_backward
        backward(grad, x, weight, moments, residual, out)
        return out
    pull = widen(grad[:, : x.shape[1]]) * widen(weight)
    full = widen(x)
    rstd = moments[:, -1:]
    if moments.shape[1] == 1:
        along = (pull * full).sum(-1, keepdim=True).mul_(rstd.pow(3)).div_(-x.shape[-1])
        pull.mul_(rstd).addcmul_(full, along)
    else:
        scaled = (full - moments[:, :1]) * rstd
        along = (pull * scaled).mean(-1, keepdim=True)
        pull = (pull - pull.mean(-1, keepdim=True)).addcmul_(scaled, along, value=-1).mul_(rstd)
    return out.copy_(pull.add_(widen(residual)))


# ---- tokens and heads --------------------------------------------------------------------------------------------------------
@_kernel("Tensor y, Tensor? sources, Tensor? cos, Tensor? sin, Tensor(a!) out")
def _lay_out(y: Tensor, sources: Tensor | None, cos: Tensor | None, sin: Tensor | None, out: Tensor) -> tuple[Any, ...]:
    rows, heads, length, width = out.shape
    return rows, length, heads, width, y, y.stride(0), sources, cos, sin, out


@_kernel("Tensor grad, int used, int shared, Tensor? places, Tensor? cos, Tensor? sin, Tensor(a!) out")
def _lay_out_backward(  # noqa: PLR0917
    grad: Tensor, used: int, shared: int, places: Tensor | None, cos: Tensor | None, sin: Tensor | None, out: Tensor
) -> tuple[Any, ...]:
    rows, heads, length, width = grad.shape
    return rows, length, heads, width, grad, out.shape[0], used, shared, places, cos, sin, out, out.stride(0)


@_kernel("Tensor x, int used, Tensor? places, Tensor(a!) out")
def _gather(x: Tensor, used: int, places: Tensor | None, out: Tensor) -> tuple[Any, ...]:
    rows, heads, length, width = x.shape
    return rows, length, heads, width, x, out.shape[0], used, places, out


@_kernel("Tensor grad, int used, Tensor? places, Tensor(a!) out")
def _gather_backward(grad: Tensor, used: int, places: Tensor | None, out: Tensor) -> tuple[Any, ...]:
    rows, heads, length, width = out.shape
    return rows, length, heads, width, grad, used, places, out


def lay_out(  # noqa: PLR0917
    y: Tensor, rows: int, heads: int, width: int, layout: Layout | None, turn: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Return the heads in the first columns of y (T, at least heads * D) as (B, heads, L, D), rotated when `turn` is given.

    `turn` is (cos, sin), each (1, T, D) of packed tokens or (1, L, D): rotary position embedding over halves (Su et al. 2021,
    arXiv 2104.09864, in the layout of Llama's weights).
    """
    length = y.shape[0] // rows if layout is None else layout.length
    cos, sin = turn or (None, None)
    if takes_kernels(y):
        out = y.new_empty(rows, heads, length, width)
        _lay_out(y, None if layout is None else layout.sources, cos, sin, out)
        return out
    part = y[:, : heads * width]
    if layout is not None:
        part = part.index_select(0, layout.sources)
        if cos is not None and sin is not None:
            # Every row begins at the first position.
            cos, sin = (angle.index_select(1, layout.sources[:length]) for angle in (cos, sin))
    x = part.view(rows, length, heads, width).transpose(1, 2)
    return (x if cos is None or sin is None else _rotate(x, cos, sin)).contiguous()


def lay_out_backward(grad: Tensor, out: Tensor, layout: Layout | None, turn: tuple[Tensor, Tensor] | None) -> None:
    """Write the gradient of `lay_out`'s y into the columns `out` (T, heads * D), from (B, heads, L, D).

    A token that all rows share gets the sum over them, padding zero.
    """
    rows, heads, length, width = grad.shape
    cos, sin = turn or (None, None)
    if takes_kernels(grad):
        used, shared, places = (len(out), 0, None) if layout is None else (layout.used, layout.shared, layout.places)
        _lay_out_backward(grad, used, shared, places, cos, sin, out)
        return
    if cos is not None and sin is not None:
        if layout is not None:
            cos, sin = (angle.index_select(1, layout.sources[:length]) for angle in (cos, sin))
        grad = _rotate(grad, cos, -sin)
    flat = grad.transpose(1, 2).reshape(rows * length, heads * width)
    if layout is None:
        out.copy_(flat)
        return
    out[: layout.used] = flat.index_select(0, layout.places)
    out[layout.used :].zero_()
    if layout.shared:
        out[: layout.shared] = flat.view(rows, length, -1)[:, : layout.shared].sum(0)


def gather(x: Tensor, tokens: int, layout: Layout | None) -> Tensor:
    """Return heads (B, heads, L, D) as tokens (T, heads * D): a shared token's from the first row, padding zero."""
    rows, heads, length, width = x.shape
    out = x.new_empty(tokens, heads * width)
    if takes_kernels(x):
        _gather(x, tokens if layout is None else layout.used, None if layout is None else layout.places, out)
        return out
    flat = x.transpose(1, 2).reshape(rows * length, heads * width)
    if layout is None:
        return flat
    torch.index_select(flat, 0, layout.places, out=out[: layout.used])
    out[layout.used :].zero_()
    return out


def gather_backward(grad: Tensor, shape: torch.Size, layout: Layout | None) -> Tensor:
    """Return the gradient of `gather`'s x, (B, heads, L, D), from (T, heads * D)."""
    rows, heads, length, width = shape
    if takes_kernels(grad):
        out = grad.new_empty(shape)
        _gather_backward(grad, len(grad) if layout is None else layout.used, None if layout is None else layout.places, out)
        return out
    if layout is not None:
        in_rows = grad.new_zeros(rows * length, heads * width)
        grad = in_rows.index_copy_(0, layout.places, grad[: layout.used])
    return grad.view(rows, length, heads, width).transpose(1, 2).contiguous()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos[:, None]
    out[..., :half].addcmul_(x[..., half:], sin[:, None, :, :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[:, None, :, half:])
    return out


# ---- attention ---------------------------------------------------------------------------------------------------------------
@_kernel("Tensor(a!) scores, int groups, float scale")
def _causal_softmax(scores: Tensor, groups: int, scale: float) -> tuple[Any, ...]:
    return scores.shape[0], groups, scores.shape[2], scale, scores


@_kernel("Tensor(a!) grad, Tensor weights, int groups, float scale")
def _causal_softmax_backward(grad: Tensor, weights: Tensor, groups: int, scale: float) -> tuple[Any, ...]:
    return weights.shape[0], groups, weights.shape[2], scale, weights, grad


def causal_softmax(scores: Tensor, groups: int, scale: float) -> Tensor:
    """Return softmax(scale * scores) over the keys that each query may see, in place: (batches, groups * L, L)."""
    if takes_kernels(scores):
        _causal_softmax(scores, groups, scale)
        return scores
    length = scores.shape[2]
    hidden = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu_(1).repeat(groups, 1)
    return torch.softmax(scores.mul_(scale).masked_fill_(hidden, float("-inf")), -1)


def causal_softmax_backward(grad: Tensor, weights: Tensor, groups: int, scale: float) -> Tensor:
    """Return the gradient of `causal_softmax`'s scores, in the place of `grad`."""
    if takes_kernels(grad):
        _causal_softmax_backward(grad, weights, groups, scale)
        return grad
    found: Tensor = torch.ops.aten._softmax_backward_data(grad, weights, -1, weights.dtype)
    return found.mul_(scale)


@_kernel("Tensor query, Tensor key, Tensor value, float scale, Tensor(a!) out, Tensor(b!) logsums")
def _attention(  # noqa: PLR0917
    query: Tensor, key: Tensor, value: Tensor, scale: float, out: Tensor, logsums: Tensor
) -> tuple[Any, ...]:
    return *_count_attention(query, key), scale, query, key, value, out, logsums


@_kernel(
    "Tensor query, Tensor key, Tensor value, float scale, Tensor out, Tensor logsums, Tensor grad, "
    "Tensor(a!) grad_query, Tensor(b!) grad_key, Tensor(c!) grad_value"
)
def _attention_backward(query: Tensor, key: Tensor, value: Tensor, scale: float, *arrays: Tensor) -> tuple[Any, ...]:
    return *_count_attention(query, key), scale, query, key, value, *arrays


def _count_attention(query: Tensor, key: Tensor) -> tuple[int, int, int, int]:
    """Return what shares keys, how often they are shared, tokens, width."""
    return key.shape[0] * key.shape[1], query.shape[1] // key.shape[1], query.shape[2], query.shape[3]


@lru_cache(maxsize=1)
def _has_products() -> bool:
    library = load_library()
    return library is not None and bool(library.has_products())


def takes_attention_kernel(query: Tensor) -> bool:
    """Return whether attention is one kernel here: bfloat16 on a processor with vectors of 512 bits."""
    return query.dtype == torch.bfloat16 and query.device.type in ("cpu", "meta") and _has_products()


def attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return causal softmax(scale * Q K^T) V, (B, heads, L, D), and the binary logarithms of its sums, (B, heads, L) float32.

    Needs the kernel. Heads of keys and values are fewer where queries share them. Everything is contiguous.
    """
    out, logsums = torch.empty_like(query), query.new_empty(query.shape[:3], dtype=torch.float32)
    _attention(query, key, value, scale, out, logsums)
    return out, logsums


def attention_backward(  # noqa: PLR0917
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, logsums: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value.

    With S = scale * Q K^T and P = e^S / 2^logsums: dV = P^T dO, dS = P x (dO V^T - sum(dO x O)), dQ = scale dS K,
    dK = scale dS^T Q (Dao 2023, arXiv 2307.08691).
    """
    grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    _attention_backward(query, key, value, scale, out, logsums, grad, *grads)
    return grads


# ---- activations -------------------------------------------------------------------------------------------------------------
@_kernel("Tensor y, Tensor(a!) out")
def _gated(y: Tensor, out: Tensor) -> tuple[Any, ...]:
    return *out.shape, y, out


@_kernel("Tensor grad, Tensor y, Tensor(a!) out")
def _gated_backward(grad: Tensor, y: Tensor, out: Tensor) -> tuple[Any, ...]:
    return y.shape[0], y.shape[1] // 2, grad, grad.stride(0), y, out


@_kernel("Tensor x, Tensor(a!) out")
def _gelu(x: Tensor, out: Tensor) -> tuple[Any, ...]:
    return *x.shape, x, out


@_kernel("Tensor grad, Tensor x, Tensor(a!) out")
def _gelu_backward(grad: Tensor, x: Tensor, out: Tensor) -> tuple[Any, ...]:
    return *x.shape, grad, grad.stride(0), x, out


def gated(y: Tensor) -> Tensor:
    """Return silu(gate) * up, (T, I), of y (T, 2 I) = [gate | up] (Shazeer 2020, arXiv 2002.05202)."""
    width = y.shape[1] // 2
    if takes_kernels(y):
        out = y.new_empty(y.shape[0], width)
        _gated(y, out)
        return out
    return F.silu(y[:, :width]).mul_(y[:, width:])


def gated_backward(grad: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of `gated`'s y from that of its result, (T, at least I)."""
    out = torch.empty_like(y)
    if takes_kernels(y):
        _gated_backward(grad, y, out)
        return out
    width = y.shape[1] // 2
    grad, gate, up = grad[:, :width], y[:, :width], y[:, width:]
    torch.mul(grad, F.silu(gate), out=out[:, width:])
    torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=out[:, :width])
    return out


def gelu(x: Tensor) -> Tensor:
    """Return GPT-2's activation, tanh's approximation of the Gaussian unit (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""
    if takes_kernels(x):
        out = torch.empty_like(x)
        _gelu(x, out)
        return out
    return F.gelu(x, approximate="tanh")


def gelu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of `gelu`'s x from that of its result, (T, at least as wide)."""
    if takes_kernels(x):
        out = torch.empty_like(x)
        _gelu_backward(grad, x, out)
        return out
    found: Tensor = torch.ops.aten.gelu_backward(grad[:, : x.shape[1]], x, approximate="tanh")
    return found


# ---- loss --------------------------------------------------------------------------------------------------------------------
@_kernel("Tensor(a!) logits, Tensor targets, Tensor(b!) losses, bool learn")
def _cross_entropy(logits: Tensor, targets: Tensor, losses: Tensor, learn: bool) -> tuple[Any, ...]:
    return *logits.shape, logits, targets, losses, int(learn)


def cross_entropy(logits: Tensor, targets: Tensor, losses: Tensor, *, learn: bool) -> None:
    """Write -log softmax(logits)[target] into `losses`; with `learn` turn the logits into its gradient, softmax - one-hot.

    Needs kernels. logits (rows, words), targets (rows,) int64, losses (rows,) float32.
    """
    _cross_entropy(logits, targets, losses, learn)
