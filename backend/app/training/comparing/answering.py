"""One model in memory with its adapter: greedy answers of many prompts at once, and the loss of a given answer.

Answers are written by compiled steps where the model and the processor allow it, else by transformers' `generate`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from app.contracts.job import TrainingJob
from app.datasets.render import EncodedExample, Renderer
from app.training.attention import can_unpack
from app.training.comparing.writing import write_answers
from app.training.compiled import LANES, RANKS, CompiledModel, find_compiled, is_plain, stack_adapters
from app.training.loading import count_free_cores, load_model, use_physical_cores
from app.training.lora import LoraLayer, adapter_disabled, load_adapter

TOGETHER = {"cpu": 8, "cuda": 16}
"""Prompts that are answered at the same time by the model's own code. Judged, not measured."""
_ANY_CONTEXT = 1 << 20


class _Check(StoppingCriteria):  # type: ignore[misc]
    """Calls something after each token; it ends the work by raising."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def __call__(self, input_ids: torch.Tensor, _scores: torch.Tensor, **_: Any) -> torch.Tensor:
        self._check()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class Answerer:
    """The job's model as it was published, and with what was trained."""

    def __init__(self, job: TrainingJob, adapter: Path, device: torch.device, check: Callable[[], None]) -> None:
        """Load both. Raises ModelUnavailable, Unsupported, Invalid, and what runs out of memory."""
        plain = job.optimization.model_copy(update={"gradient_checkpointing": False})
        model = load_model(job.model_copy(update={"optimization": plain}), device)
        if can_unpack(model):  # the attention of training knows neither a cache nor padding on the left
            model.set_attn_implementation("sdpa")  # type: ignore[operator]
        compiled = find_compiled(model)
        load_adapter(model, adapter)
        self._compiled = compiled if compiled is not None and _take_adapter(compiled, model) else None
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.model = model.to(device).eval()
        self.renderer = Renderer.load(Path(job.model.path))
        self.context = int(getattr(model.config, "max_position_embeddings", 0) or _ANY_CONTEXT)
        self.together = TOGETHER["cuda" if device.type == "cuda" else "cpu"] if self._compiled is None else LANES
        self._device, self._check, self._cores = device, check, use_physical_cores()

    @torch.inference_mode()
    def answer(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, *, tuned: bool) -> list[str]:
        """Return the greedy answer to each prompt (token ids), which together with it must fit in the context."""
        self._use_free_cores()
        if self._compiled is not None:
            ranks = (0, self._compiled.rank) if tuned else (0, 0)
            said = write_answers(
                self._compiled,
                prompts,
                most_tokens=max_new_tokens,
                stop_ids=self.renderer.stop_ids,
                ranks=ranks,
                check=self._check,
            )
            return [self._text(tokens) for tokens in said]
        if tuned:
            return self._answer(prompts, max_new_tokens)
        with adapter_disabled(self.model):
            return self._answer(prompts, max_new_tokens)

    @torch.inference_mode()
    def loss(self, row: EncodedExample, *, tuned: bool) -> tuple[float, int]:
        """Return the mean cross-entropy of the row's learned tokens in nats and their number; there is at least one."""
        self._check()
        self._use_free_cores()
        places = [place for place, trained in enumerate(row.trained) if trained and place > 0]
        ids = torch.tensor([row.ids[: places[-1] + 1]], device=self._device)
        wanted = torch.tensor(places, device=self._device)
        if tuned:
            logits = self._logits(ids, wanted - 1)
        else:
            with adapter_disabled(self.model):
                logits = self._logits(ids, wanted - 1)
        return float(F.cross_entropy(logits.float(), ids[0][wanted])), len(places)

    def _logits(self, ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return the scores after the tokens at `places`, (places, vocabulary)."""
        found: torch.Tensor = self.model(input_ids=ids, use_cache=False, logits_to_keep=places).logits[0]
        return found if found.shape[0] == len(places) else found[places]

    def _answer(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.full((len(prompts), longest), self.renderer.pad_id, device=self._device)
        mask = torch.zeros_like(ids)
        for place, prompt in enumerate(prompts):
            ids[place, longest - len(prompt) :] = torch.tensor(prompt, device=self._device)
            mask[place, longest - len(prompt) :] = 1
        settings = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=self.renderer.pad_id,
            eos_token_id=sorted(self.renderer.stop_ids),
        )
        found: torch.Tensor = self.model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=mask,
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([_Check(self._check)]),
        )
        return [self._text(row[longest:].tolist()) for row in found]

    def _use_free_cores(self) -> None:
        if self._device.type == "cpu":
            torch.set_num_threads(count_free_cores(self._cores))

    def _text(self, tokens: list[int]) -> str:
        end = next((place for place, token in enumerate(tokens) if token in self.renderer.stop_ids), len(tokens))
        return self.renderer.decode(tokens[:end]).strip()


def _take_adapter(compiled: CompiledModel, model: nn.Module) -> bool:
    """Give the model's adapter to the compiled model; False where it does not know that kind."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    linears = compiled.list_linears()
    if not is_plain(layers, {name for name, _, _ in linears}):
        return False
    rank = len(next(iter(layers.values())).lora_A)
    with torch.no_grad():
        compiled.set_stack(stack_adapters([(layers, (0, rank))], -(-rank // RANKS) * RANKS, linears))
    return True
