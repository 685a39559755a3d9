"""One training step followed without weights: streams, profiles, and the worker's answers."""

import json
import subprocess
import sys

import pytest
import torch
import transformers
from pydantic import ValidationError
from torch.utils._python_dispatch import TorchDispatchMode

from app.contracts.trace import ProfileCall, ReplayCall, TraceAnswer, TraceProfile, TraceRequest
from app.core.errors import AffinageError
from app.planner.run_shape import RunShape
from app.planner.trace.__main__ import answer
from app.planner.trace.engine_step import MicroShape, follow_step
from app.planner.trace.profiling import trace_profile
from app.planner.trace.replaying import find_peak, replay_step
from app.planner.trace.shapes import Runner
from app.planner.traced import count_live_bytes, count_work, estimate_traced, find_profile, find_regime, name_trace, write_config

torch.set_num_threads(1)
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 5, "num_attention_heads": 4, "vocab_size": 1000}
SHARED = {**SIZES, "num_key_value_heads": 2}
QV = ["q_proj", "v_proj"]
FUSED_QKV = ["query_key_value"]
FAMILIES: dict[str, tuple[transformers.PreTrainedConfig, list[str]]] = {
    "gpt2": (transformers.GPT2Config(n_embd=64, n_layer=5, n_head=4, vocab_size=1000, pad_token_id=0), ["c_attn"]),
    "llama": (transformers.LlamaConfig(**SHARED), QV),
    "qwen2": (transformers.Qwen2Config(**SHARED), QV),
    "qwen3": (transformers.Qwen3Config(**SHARED, head_dim=32), QV),
    "gemma2": (transformers.Gemma2Config(**SHARED, head_dim=32), QV),
    "gemma3": (transformers.Gemma3TextConfig(**SHARED, head_dim=32), QV),
    "phi": (transformers.PhiConfig(**SIZES), QV),
    "phi3": (transformers.Phi3Config(**SHARED, pad_token_id=0), ["qkv_proj"]),
    "mistral": (transformers.MistralConfig(**SHARED, sliding_window=None), QV),
    "gpt-neox": (transformers.GPTNeoXConfig(**SIZES), FUSED_QKV),
    "falcon": (
        transformers.FalconConfig(hidden_size=64, num_hidden_layers=5, num_attention_heads=4, vocab_size=1000),
        FUSED_QKV,
    ),
    "opt": (
        transformers.OPTConfig(
            hidden_size=64, ffn_dim=128, num_hidden_layers=5, num_attention_heads=4, vocab_size=1000, word_embed_proj_dim=64
        ),
        QV,
    ),
    "bloom": (transformers.BloomConfig(hidden_size=64, n_layer=5, n_head=4, vocab_size=1000), FUSED_QKV),
    "mixtral": (transformers.MixtralConfig(**SHARED, num_local_experts=4), QV),
    "olmoe": (transformers.OlmoeConfig(**SIZES, num_key_value_heads=4, num_experts=8, num_experts_per_tok=2), QV),
}


def make_request(family: str = "llama", **changes: object) -> TraceRequest:
    config, targets = FAMILIES[family]
    values: dict[str, object] = {
        "config": write_config(config.to_dict()),
        "rank": 4,
        "target_modules": targets,
        "dtype": "bfloat16",
        "checkpointing": False,
        "device": "cuda",
        "compute_capability": 8,
        **changes,
    }
    return TraceRequest.model_validate(values)


def ask(**changes: object) -> str:
    return ProfileCall(request=make_request(**changes)).model_dump_json()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def profile() -> TraceProfile:
    return trace_profile(make_request())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_step_of_every_family_is_followed_and_all_it_took_is_given_back(family: str) -> None:
    stream = follow_step(make_request(family), [MicroShape(2, 32, 40)])
    peak = find_peak(stream)
    parts = peak.parts
    assert sum(parts.values()) == peak.live_bytes
    assert parts["weights"] > 0 and parts["activations"] > 0
    assert parts["optimizer"] >= 2 * parts["adapter"]
    # What is left after the step: weights, adapter, optimizer, cuBLAS. No activation, no gradient.
    left = dict.fromkeys(parts, 0)
    for block, size in zip(stream.ids, stream.sizes, strict=True):
        left[stream.purposes[block]] += size
    assert left["gradients"] == left["activations"] == left["logits"] == 0


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gpt2", {"device": "cpu", "compute_capability": 0, "dtype": "float32", "length_to": 512}),
        ("llama", {"quantization": "nf4", "checkpointing": True}),
        ("phi", {"compute_capability": 7, "dtype": "float16"}),
        ("opt", {"checkpointing": True}),
    ],
)
def test_a_profile_predicts_other_shapes_and_the_real_depth(family: str, changes: dict[str, object]) -> None:
    request = make_request(family, **changes)
    profile = trace_profile(request)
    for shape in (MicroShape(6, 40, 200), MicroShape(4, 256, 1024)):
        stream = follow_step(request, [shape], accumulated=True)
        predicted = count_live_bytes(profile, shape.batch, shape.length, shape.labels)
        assert predicted == pytest.approx(find_peak(stream).live_bytes, rel=2e-3)
        work = count_work(profile.micro, shape.batch, shape.length, shape.labels)
        followed = [costs for (phase, _), costs in stream.costs.items() if phase != "optimizer"]
        flops = sum(costs.flops_half + costs.flops_full for costs in followed)
        assert work.flops_half + work.flops_full == pytest.approx(flops, rel=1e-4)


def test_parameters_are_counted_exactly_for_the_real_depth(profile: TraceProfile) -> None:
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(FAMILIES["llama"][0])
    assert profile.params == sum(parameter.numel() for parameter in model.parameters())
    assert profile.layers == 5
    assert profile.adapter_params == 5 * 4 * ((64 + 64) + (64 + 32))


def test_live_bytes_on_meta_are_those_of_a_real_step_on_the_processor() -> None:
    """The same step is taken with numbers, its storages counted by the same rule."""
    from app.contracts.job import Lora
    from app.planner.trace.stream import Recorder
    from app.training.assembly import add_gradient, assemble, build_unloaded
    from app.training.batching import MicroBatch

    config = FAMILIES["qwen2"][0]
    cpu = torch.device("cpu")
    model = build_unloaded(config, device=cpu, kind="cpu", dtype="float32", checkpointing=False)
    lora = Lora(rank=4, alpha=8, dropout=0.0, target_modules=QV, fan_in_fan_out=False)
    built = assemble(model, lora, kind="cpu")
    ids = torch.randint(0, 1000, (3, 48))
    positions = torch.arange(60)
    recorder = Recorder(Passing())
    recorder.begin("forward")
    recorder.hold([*model.parameters(), *model.buffers()], "weights")
    before = recorder.finish().live_bytes
    with recorder:
        add_gradient(built.head, MicroBatch(ids.clone(), positions.clone(), positions.clone(), 144))
    real = find_peak(recorder.finish()).live_bytes - before

    request = make_request("qwen2", device="cpu", compute_capability=0, dtype="float32", length_to=512)
    traced = find_peak(follow_step(request, [MicroShape(3, 48, 60)]))
    held = traced.parts["weights"] + traced.parts["adapter"] + traced.parts["optimizer"]
    assert traced.live_bytes - held == pytest.approx(real, rel=0.01)


class Passing(Runner):
    """Runs every operation, with its numbers."""

    def run(self, func: object, args: object, kwargs: object) -> object:
        return func(*args, **kwargs)  # type: ignore[operator, misc, return-value]


def test_remembered_calls_return_what_running_them_returns() -> None:
    class Compared(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.runner = Runner()
            self.compared = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            kwargs = kwargs or {}
            real = func(*args, **kwargs)
            given = self.runner.run(func, args, kwargs)
            if isinstance(real, torch.Tensor):
                assert (given.shape, given.stride(), given.dtype) == (real.shape, real.stride(), real.dtype), func
                self.compared += 1
            return real

    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(FAMILIES["llama"][0], dtype=torch.bfloat16)
        ids = torch.zeros(2, 16, dtype=torch.long)
    compared = Compared()
    from app.planner.trace.kernels import as_on

    with as_on("cuda", 8), compared:
        model(input_ids=ids, use_cache=False).logits.float().sum().backward()
    assert compared.compared > 500


def test_checkpointing_and_4_bits_save_what_they_promise() -> None:
    plain = find_peak(follow_step(make_request(), [MicroShape(4, 128, 64)]))
    recomputed = find_peak(follow_step(make_request(checkpointing=True), [MicroShape(4, 128, 64)]))
    assert recomputed.parts["activations"] < plain.parts["activations"] / 2
    packed = follow_step(make_request(quantization="nf4"), [MicroShape(4, 128, 64)])
    # 4 bits, and 8 + 32/256 bits for 64 weights; embeddings and head stay as they are.
    quantised = 5 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)
    saved = plain.parts["weights"] - find_peak(packed).parts["weights"]
    tables = 5 * 7 * (16 * 4 + 256 * 4 + 4)
    assert saved == pytest.approx(quantised * (2 - 0.5 - 1 / 64 - 4 / (64 * 256)) - tables, rel=0.002)


def test_a_replay_reserves_at_least_what_is_allocated_and_allocates_at_least_what_lives() -> None:
    replayed = replay_step(ReplayCall(request=make_request(), batch=4, length=128, labels=300, earlier_length=96))
    assert replayed.parts.total <= replayed.allocated_bytes <= replayed.reserved_bytes
    assert replayed.parts.context == 0


def test_the_estimate_names_every_part_and_is_found_for_its_variant_only(profile: TraceProfile) -> None:
    run = RunShape(
        device="cuda", micro_batch=4, length=128, dtype="bfloat16", quantization="none", adapter_params=profile.adapter_params,
        rank=4, checkpointing=False, compute_capability=8,
    )  # fmt: skip
    assert find_profile([profile], run) is profile
    parts = estimate_traced(profile, run)
    assert parts.total - parts.context == count_live_bytes(profile, 4, 128, 512)
    from dataclasses import replace

    for change in ({"dtype": "float16"}, {"checkpointing": True}, {"compute_capability": 7}, {"rank": 8}):
        assert find_profile([profile], replace(run, **change)) is None  # type: ignore[arg-type]


def test_regimes_end_where_attention_changes() -> None:
    assert find_regime({}, "cuda", 700) == (1, 1 << 17)
    assert find_regime({}, "cpu", 512) == (1, 512)
    assert find_regime({}, "cpu", 513) == (513, 1 << 17)
    assert find_regime({"sliding_window": 1024}, "cpu", 600) == (513, 1024)
    assert find_regime({"sliding_window": 1024, "use_sliding_window": False}, "cuda", 600) == (1, 1 << 17)


def test_a_trace_is_named_after_everything_that_changes_it() -> None:
    first = name_trace(make_request())
    assert first == name_trace(make_request())
    assert first != name_trace(make_request(checkpointing=True))
    with pytest.raises(ValidationError):
        make_request(rank=0)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("{", "not_traced.failed"),
        (ask(target_modules=["nope"]), "invalid.target_modules"),
        (ask(config='{"model_type": "no-such-model"}'), "unsupported.model_config"),
        (ask(config='{"hidden_size": 64}'), "unsupported.model_config"),
        (ask(config='{"model_type": "llama", "hidden_size": -5}'), "not_traced.failed"),
    ],
)
def test_what_cannot_be_traced_is_answered_with_a_reason(line: str, key: str) -> None:
    said = answer(line)
    assert said.profile is None and said.error_key == key


def test_an_unknown_model_type_is_an_expected_error() -> None:
    with pytest.raises(AffinageError):
        trace_profile(make_request(config='{"model_type": "no-such-model"}'))


def test_the_worker_answers_line_by_line_and_ends_with_its_input() -> None:
    config = json.dumps({**FAMILIES["gpt2"][0].to_dict(), "n_layer": 3})
    call = ReplayCall(request=make_request("gpt2", config=config), batch=2, length=64, labels=30)
    lines = "nonsense\n" + call.model_dump_json() + "\n"
    done = subprocess.run([sys.executable, "-m", "app.planner.trace"], input=lines, capture_output=True, text=True, check=True)
    first, second = (TraceAnswer.model_validate_json(line) for line in done.stdout.splitlines())
    assert first.error_key == "not_traced.failed"
    assert second.replay is not None and second.replay.reserved_bytes > 0
