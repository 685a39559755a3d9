"""One resident base model, its adapters, and the loop that answers token by token.

The base model is loaded once. Adapters are kept beside its layers (adapters.py), so the original and every tuned model
answer from the same weights in memory, and questions that come at the same time are answered together: by compiled code
where it knows the model and the processor (ragged.py), else by the model's own (batch.py).
"""

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from app.contracts.chat import ChatDelta, FinishReason, GenerateCommand
from app.core.errors import Invalid, ModelUnavailable
from app.datasets.render import Renderer
from app.inference.adapters import Adapters
from app.inference.batch import Answer, Batch, new_cache
from app.inference.detokenise import TextStream
from app.inference.free_cores import FreeCores
from app.inference.likelihood import find_likelihood
from app.inference.ragged import RaggedBatch
from app.inference.sampling import Sampler
from app.inference.server import Interrupted
from app.inference.stops import StopGuard
from app.storage.model_store import EMBEDDED_NAME, missing_files
from app.training.compiled import find_compiled
from app.training.embedded import materialise
from app.training.loading import four_bits, unreadable, use_physical_cores
from app.training.lora import keep_layout
from app.training.memory import is_out_of_memory

PREFILL_TOKENS = 512
"""The prompt is read in pieces of this length, so that a stop is noticed and scores never fill the memory."""
MOST_ANSWERS = 16
"""Answers that are written at the same time; more wait."""


@dataclass
class _Resident:
    """What is in memory."""

    key: tuple[str, torch.dtype, str]
    """Model folder, precision and quantization."""
    model: nn.Module
    renderer: Renderer
    context: int
    """Longest sequence the model was made for, in tokens."""
    adapters: Adapters
    cached_layers: int
    """Layers with keys and values; 0 where the model keeps something else, which cannot be joined with another answer's."""
    ragged: RaggedBatch | None
    """The answers that compiled code writes; None where it cannot."""
    batch: Batch = field(default_factory=Batch)
    """The answers that the model's own code writes."""
    fresh: list[tuple[Answer, Any, Tensor]] = field(default_factory=list)
    """Answers of the model's own code whose prompt has been read: with their cache, and the scores of the first token."""

    @property
    def answers(self) -> list[Answer]:
        """Those that are being written."""
        compiled = [] if self.ragged is None else self.ragged.answers
        return [*compiled, *self.batch.answers, *(answer for answer, _, _ in self.fresh)]


class Engine:
    """Answers commands on one device. Not safe to share between threads."""

    def __init__(self, device_id: str) -> None:
        self._device = torch.device(device_id)
        self._cores = FreeCores(use_physical_cores())
        self._resident: _Resident | None = None

    def can_join(self, command: GenerateCommand) -> bool:
        """Whether `start` may be called now: nothing else is being written, or the same model writes and has room."""
        resident = self._resident
        if resident is None or not resident.answers:
            return True
        return resident.cached_layers > 0 and resident.key == self._key(command) and len(resident.answers) < MOST_ANSWERS

    def start(self, command: GenerateCommand, is_interrupted: Callable[[], bool]) -> Answer:
        """Load what the answer needs and read its prompt, if need be; `step` then writes it.

        Raise AffinageError for a model, an adapter or a prompt that cannot be used, Interrupted when asked to stop.
        """
        resident = self._load(command)
        self._use_free_cores()
        in_use = [answer.adapter for answer in resident.answers]
        adapter = None
        if command.adapter_path is not None:
            adapter = resident.adapters.load(command.adapter_path, command.lora, in_use)
        if command.prompt is None:
            prompt = resident.renderer.encode_prompt(command.messages)
        else:
            prompt = resident.renderer.encode_text(command.prompt)
        if len(prompt) >= resident.context:
            raise Invalid("prompt_too_long", tokens=len(prompt), limit=resident.context)
        answer = Answer(
            command=command,
            adapter=adapter,
            sampler=Sampler(command.generation),
            text=TextStream(resident.renderer.decode),
            stops=StopGuard(command.generation.stop),
            prompt_tokens=len(prompt),
            most_tokens=min(command.generation.max_new_tokens, resident.context - len(prompt)),
            started=time.monotonic(),
        )
        if resident.ragged is not None and resident.ragged.can_take(adapter):
            resident.ragged.add(answer, prompt)
            return answer
        resident.adapters.seat([adapter])
        scores, cache = self._read_prompt(resident, prompt, is_interrupted)
        resident.fresh.append((answer, cache, scores))
        return answer

    def step(self) -> list[tuple[Answer, ChatDelta]]:
        """Write the next token of every answer and return what there is to tell; those that finished are gone then."""
        resident = self._resident
        if resident is None:
            return []
        self._use_free_cores()
        chosen: list[tuple[Answer, Tensor]] = []
        if resident.ragged is not None and resident.ragged.answers:
            chosen += resident.ragged.step()
        fresh, resident.fresh = resident.fresh, []
        if not fresh and resident.batch.answers:
            resident.adapters.seat([answer.adapter for answer in resident.batch.answers])
            chosen += zip(resident.batch.answers, self._forward_batch(resident), strict=True)
        told: list[tuple[Answer, ChatDelta]] = []
        for answer, scores in [*chosen, *((answer, scores) for answer, _, scores in fresh)]:
            if (delta := self._choose(resident, answer, scores)) is not None:
                told.append((answer, delta))
        ended = [answer for answer, delta in told if delta.finished]
        with torch.inference_mode():
            for answer, cache, _ in fresh:
                if answer not in ended:
                    resident.batch.join(answer, cache)
        self._leave(resident, ended)
        return told

    def drop(self, answer: Answer) -> None:
        """Stop writing an answer."""
        if self._resident is not None:
            self._resident.fresh = [entry for entry in self._resident.fresh if entry[0] is not answer]
            self._leave(self._resident, [answer])

    def answer(self, command: GenerateCommand, is_interrupted: Callable[[], bool]) -> Iterator[ChatDelta]:
        """Yield one answer piece by piece, when nothing else is being written; the last one is `finished`.

        `seconds` counts from the start of the prompt. Raise as `start`.
        """
        answer = self.start(command, is_interrupted)
        finished = False
        try:
            while not finished:
                for _, delta in self.step():
                    finished = delta.finished
                    yield delta
                if not finished and is_interrupted():
                    raise Interrupted
        finally:
            if not finished:
                self.drop(answer)

    def unload(self) -> None:
        """Free the model and give its memory back to the system; answers that are being written are lost."""
        self._resident = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory otherwise

    def is_out_of_memory(self, error: Exception) -> str | None:
        """Return the error key when `error` says that memory ran out."""
        if not is_out_of_memory(error):
            return None
        return "oom_host.chat" if self._device.type == "cpu" else "oom_device.chat"

    @torch.inference_mode()
    def _read_prompt(self, resident: _Resident, prompt: list[int], is_interrupted: Callable[[], bool]) -> tuple[Tensor, Any]:
        """Return the scores after the prompt, (vocabulary,), and the cache that holds it."""
        cache: Any = new_cache(resident.cached_layers) if resident.cached_layers else None
        scores: Tensor | None = None
        for piece in torch.split(torch.tensor([prompt], device=self._device), PREFILL_TOKENS, dim=1):
            if is_interrupted():
                raise Interrupted
            output = resident.model(input_ids=piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
            scores, cache = output.logits[0, -1], output.past_key_values
        assert scores is not None, "a prompt has at least one token"
        return scores, cache

    @torch.inference_mode()
    def _forward_batch(self, resident: _Resident) -> Tensor:
        """Return the scores of each answer's next token, (answers, vocabulary)."""
        output = resident.model(**resident.batch.inputs(self._device))
        scores: Tensor = output.logits[:, -1]
        return scores

    @staticmethod
    @torch.inference_mode()
    def _leave(resident: _Resident, gone: list[Answer]) -> None:
        resident.batch.leave(gone)
        if resident.ragged is not None:
            resident.ragged.drop(gone)

    @torch.inference_mode()
    def _choose(self, resident: _Resident, answer: Answer, scores: Tensor) -> ChatDelta | None:
        """Take the next token and return what is to be told: a piece of text, the end, or nothing yet."""
        token = answer.sampler.choose(scores)
        if token in resident.renderer.stop_ids:
            return self._finished(answer, answer.stops.push(answer.text.flush()), "stop")
        answer.last = token
        answer.tokens += 1
        if answer.command.generation.logprobs is not None:
            decode = resident.renderer.decode
            answer.likelihoods.append(find_likelihood(scores, token, answer.command.generation.logprobs, decode))
        piece = answer.stops.push(answer.text.push(token))
        if answer.stops.reached:
            return self._finished(answer, piece, "stop")
        if answer.tokens == answer.most_tokens:
            return self._finished(answer, piece + answer.stops.push(answer.text.flush()), "length")
        return self._told(answer, piece) if piece else None

    def _finished(self, answer: Answer, piece: str, reason: FinishReason) -> ChatDelta:
        reason = "stop" if answer.stops.reached else reason
        last = self._told(answer, piece + answer.stops.flush())
        return last.model_copy(update={"finished": True, "finish_reason": reason})

    @staticmethod
    def _told(answer: Answer, piece: str) -> ChatDelta:
        likelihoods, answer.likelihoods = answer.likelihoods, []
        return ChatDelta(
            target=answer.command.target,
            delta=piece,
            tokens=answer.tokens,
            seconds=time.monotonic() - answer.started,
            prompt_tokens=answer.prompt_tokens,
            likelihoods=likelihoods,
        )

    def _use_free_cores(self) -> None:
        if self._device.type == "cpu" and (free := self._cores.count()) != torch.get_num_threads():
            torch.set_num_threads(free)

    def _key(self, command: GenerateCommand) -> tuple[str, torch.dtype, str]:
        return command.model_path, self._precision(command.dtype), command.quantization

    def _load(self, command: GenerateCommand) -> _Resident:
        key = self._key(command)
        if self._resident is not None and self._resident.key == key:
            return self._resident
        self.unload()
        folder = Path(command.model_path)
        if missing_files(folder) and folder.name == EMBEDDED_NAME and folder.parent.name == "embedded":
            materialise(folder)
        if missing := missing_files(folder):
            raise ModelUnavailable("folder_incomplete", path=command.model_path, missing=", ".join(missing))
        renderer = Renderer.load(folder)
        precision = self._precision(command.dtype)
        quantization = four_bits(precision) if command.quantization == "nf4" else None
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model: nn.Module = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=precision,
                attn_implementation="sdpa",
                quantization_config=quantization,
                device_map={"": str(self._device)} if quantization else None,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise unreadable(folder.name, error) from error
        context = int(getattr(config, "max_position_embeddings", 0) or 1 << 20)
        if quantization is None:
            model.to(self._device)
        keep_layout(model)
        adapters = Adapters(model.eval())
        compiled = find_compiled(model)
        ragged = None if compiled is None else RaggedBatch(compiled, adapters)
        self._resident = _Resident(key, model, renderer, context, adapters, _count_cached_layers(config), ragged)
        return self._resident

    def _precision(self, dtype: str) -> torch.dtype:
        """Return the asked precision where the device computes it natively, else the nearest that it does."""
        asked: torch.dtype = getattr(torch, dtype)
        if self._device.type == "cuda":
            native = torch.cuda.get_device_capability(self._device) >= (8, 0)
            return torch.float16 if asked is torch.bfloat16 and not native else asked
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast and asked is not torch.float32 else torch.float32


def _count_cached_layers(config: Any) -> int:
    """Return in how many layers the model attends to keys and values of its own; 0 where some layers do otherwise."""
    text = config.get_text_config(decoder=True)
    kinds: set[str] = set(getattr(text, "layer_types", None) or [])
    shared: int = getattr(text, "num_kv_shared_layers", None) or 0
    if kinds - {"full_attention", "sliding_attention"} or shared:
        return 0
    return int(text.num_hidden_layers)
