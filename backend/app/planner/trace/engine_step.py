"""Our engine's training step on `meta`: the trainer's own functions, watched by a Recorder."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from app.contracts.job import Lora
from app.contracts.trace import TraceRequest
from app.core.errors import Unsupported
from app.planner.trace.kernels import Unpacking, as_on, find_heads, list_held, pack_linears
from app.planner.trace.shapes import Runner
from app.planner.trace.stream import AFTER, Recorder, Stream
from app.training.assembly import Trainable, add_gradient, assemble, build_unloaded, finish_gradient, update
from app.training.batching import Layout, MicroBatch

_META = torch.device("meta")
_WORKSPACE_HOPPER = 32 << 20
_WORKSPACE = 8_519_680
"""cuBLAS workspace of one thread, from compute capability 9 on and before; forward and autograd thread have one each."""
_LISTED_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")


@dataclass(frozen=True)
class MicroShape:
    """Sizes of one micro-batch."""

    batch: int
    length: int
    labels: int
    packed_tokens: int = 0
    """Of a packed micro-batch, for a model that takes one; 0 = of as many full rows."""

    @property
    def places(self) -> int:
        """Tokens that attention sees, padding counted."""
        return self.batch * self.length

    @property
    def tokens(self) -> int:
        """Tokens that everything else sees, padding counted."""
        return self.packed_tokens or self.places


def read_config(text: str) -> Any:
    """Return the transformers configuration for a config.json. Raises Unsupported for a model type it does not know."""
    values = json.loads(text)
    model_type = values.pop("model_type", None)
    if not isinstance(model_type, str):
        raise Unsupported("model_config", field="model_type")
    try:
        return AutoConfig.for_model(model_type, **values)
    except ValueError as error:
        raise Unsupported("model_config", field="model_type") from error


def count_layers(config: Any) -> int:
    """Return the transformer blocks of the language model."""
    return int(config.get_text_config().num_hidden_layers)


def shorten(config: Any, layers: int) -> None:
    """Let the model have only `layers` blocks; lists with one entry a block are cut alike."""
    text = config.get_text_config()
    whole = count_layers(config)
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == whole:
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers


class EngineStep:
    """A model on `meta` with adapter and optimizer; follows any number of steps of any shape.

    Use inside `as_on` of the request's device (`open_step`).
    """

    def __init__(self, request: TraceRequest, layers: int | None = None) -> None:
        config = read_config(request.config)
        if layers is not None:
            shorten(config, layers)
        self.request = request
        self.layers = count_layers(config)
        self._runner = Runner()
        model = build_unloaded(
            config, device=_META, kind=request.device, dtype=request.dtype, checkpointing=request.checkpointing
        )
        self.params = sum(parameter.numel() for parameter in model.parameters())
        self._unpacking = Unpacking()
        if request.quantization == "nf4":
            compute_dtype = getattr(torch, request.dtype)
            heads = find_heads(model)
            self._unpacking = pack_linears(model, heads, compute_dtype, double_quant=request.double_quant)
        lora = Lora(
            rank=request.rank,
            alpha=2 * request.rank,
            dropout=0.05 if request.dropout else 0.0,
            target_modules=request.target_modules,
            fan_in_fan_out=False,
            use_dora=request.dora,
        )
        with _META:
            built = assemble(model, lora, kind=request.device, quantization=request.quantization)
        optimizer = built.optimizer if built.optimizer.state else _make_optimizer(built.parameters)
        self.built = Trainable(built.model, built.parameters, built.head, optimizer)
        self.adapter_params = sum(parameter.numel() for parameter in built.parameters)
        # Asked for only now: what is put on a processor's model stacks some of its weights anew.
        adapter = {id(parameter) for parameter in built.parameters}
        self._frozen = [tensor for tensor in list_held(built.model) if id(tensor) not in adapter]

    def follow(self, shapes: Iterable[MicroShape], *, steps: int = 1, accumulated: bool = True) -> Stream:
        """Return the stream of `steps` optimizer steps with these micro-batches each; round = number of the micro-batch.

        The optimizer's states exist from the start. `accumulated`: gradients of an earlier micro-batch exist as well.
        """
        recorder = Recorder(self._runner)
        self._unpacking.recorder = recorder
        recorder.begin("forward")
        recorder.hold(self._frozen, "weights")
        recorder.hold(self.built.parameters, "adapter")
        states = self.built.optimizer.state.values()
        recorder.hold((tensor for state in states for tensor in state.values()), "optimizer")
        if self.request.device == "cuda":
            for _ in range(2):
                recorder.take(_WORKSPACE_HOPPER if self.request.compute_capability >= 9 else _WORKSPACE, "workspace")
        if accumulated:
            for parameter in self.built.parameters:
                parameter.grad = torch.zeros_like(parameter)
            recorder.hold((parameter.grad for parameter in self.built.parameters), "gradients")  # type: ignore[misc]
        hooks = self._watch(recorder)
        watched = _WatchedHead(self.built.head, recorder)
        number = 0
        try:
            with recorder:
                for _ in range(steps):
                    for shape in shapes:
                        recorder.begin("forward", round_=number)
                        batch = _make_batch(shape, packed=self.built.head.packs)
                        add_gradient(watched, batch)  # type: ignore[arg-type]
                        gradients = [p.grad for p in self.built.parameters if p.grad is not None]
                        recorder.hold(gradients, "gradients")
                        del batch, gradients
                        number += 1
                    recorder.begin("optimizer", round_=number - 1)
                    finish_gradient(self.built.parameters, 1, 1.0)
                    update(self.built.optimizer, 1e-4, keep_gradients=self.request.device == "cpu")
        finally:
            for hook in hooks:
                hook.remove()
            self._unpacking.recorder = None
            self.built.optimizer.zero_grad(set_to_none=True)
        return recorder.finish()

    def _watch(self, recorder: Recorder) -> list[Any]:
        """Let the model's blocks tell where the step is."""
        body: nn.Module = self.built.model.base_model  # type: ignore[assignment]
        hooks: list[Any] = []
        for index, block in enumerate(self._find_blocks()):
            hooks.append(block.register_forward_pre_hook(_Arrival(recorder, index)))
            hooks.append(block.register_forward_hook(_Departure(recorder, index, last=index == self.layers - 1)))

        def begin_loss(*_: object) -> None:
            if recorder.phase == "forward":
                recorder.begin("loss")

        return [*hooks, body.register_forward_hook(begin_loss)]

    def _find_blocks(self) -> nn.ModuleList:
        for module in self.built.model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == self.layers:
                return module
        raise Unsupported("model_config", field="num_hidden_layers")


class _Arrival:
    """Called before a block runs, also when it is run again for its gradient."""

    def __init__(self, recorder: Recorder, index: int) -> None:
        self.recorder, self.index = recorder, index

    def __call__(self, *_: object) -> None:
        self.recorder.move(self.index)


class _Departure:
    """Called after a block ran; asks autograd to say when the block's gradient begins."""

    def __init__(self, recorder: Recorder, index: int, *, last: bool) -> None:
        self.recorder, self.index, self.last = recorder, index, last

    def __call__(self, _module: nn.Module, _arguments: object, output: Any) -> None:
        if self.recorder.phase != "forward":
            return
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        if hidden.grad_fn is not None:
            hidden.grad_fn.register_prehook(self.arrive)
        if self.last:
            self.recorder.move(AFTER)

    def arrive(self, _: object) -> None:
        """The gradient of the block's output is there."""
        self.recorder.move(self.index)


class _WatchedHead:
    """The trainer's loss head; tells when the backward pass begins."""

    def __init__(self, head: Any, recorder: Recorder) -> None:
        self._head, self._recorder = head, recorder

    def summed(self, batch: MicroBatch) -> Tensor:
        """Return the loss of the wrapped head."""
        loss: Tensor = self._head.summed(batch)
        if self._recorder.phase == "forward":
            self._recorder.begin("loss")  # the model did not call its body, whose end would have told
        assert loss.grad_fn is not None
        loss.grad_fn.register_prehook(lambda _: self._recorder.begin("backward", AFTER))
        return loss


def _make_optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the trainer's fused AdamW after its first step: torch makes its states only where it can run it."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0, fused=True)
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=_META),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def _make_batch(shape: MicroShape, *, packed: bool) -> MicroBatch:
    packed = packed and shape.batch > 1
    ids = torch.zeros(*((1, shape.tokens) if packed else (shape.batch, shape.length)), dtype=torch.long, device=_META)
    layout = None
    if packed:
        layout = Layout(
            rows=shape.batch,
            length=shape.length,
            shared=0,
            used=shape.tokens,
            places=torch.zeros(shape.tokens, dtype=torch.long, device=_META),
            sources=torch.zeros(shape.places, dtype=torch.long, device=_META),
        )
    return MicroBatch(
        ids=ids,
        positions=torch.zeros(shape.labels, dtype=torch.long, device=_META),
        targets=torch.zeros(shape.labels, dtype=torch.long, device=_META),
        tokens=shape.tokens,
        places=torch.zeros_like(ids) if packed else None,
        layout=layout,
    )


def follow_step(request: TraceRequest, shapes: list[MicroShape], *, steps: int = 1, accumulated: bool = False) -> Stream:
    """Return the stream of whole steps of the whole model: for the replay of an allocator."""
    with as_on(request.device, request.compute_capability):
        return EngineStep(request).follow(shapes, steps=steps, accumulated=accumulated)
