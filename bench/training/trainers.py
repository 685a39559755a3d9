"""Who is compared, and with which settings: the product, TRL's SFTTrainer, and a plain transformers + PEFT loop."""

from dataclasses import dataclass, replace
from typing import Any, Literal

Trainer = Literal["affinage", "trl", "plain"]
MICRO_BATCHES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Setting:
    """One way to run one trainer. The effective batch is the workload's in all of them."""

    trainer: Trainer
    micro_batch: int = 8
    weights: Literal["float32", "bfloat16"] = "bfloat16"
    autocast: bool = False
    """bfloat16 autocast around the forward pass."""
    checkpointing: bool = False
    packing: bool = False
    grouped: bool = False
    """TRL: rows of similar length in one micro-batch, over the whole file."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    huge_pages: bool = True
    """Whether the process gets the environment that Affinage gives its trainer (allocator, huge pages)."""
    as_it_comes: bool = False
    """TRL: nothing set that it does not ask for; weights in fp32 under autocast, checkpointing, batch 8."""

    @property
    def name(self) -> str:
        """Name that finds the run again."""
        if self.trainer == "affinage":
            return "Affinage"
        title = "TRL" if self.trainer == "trl" else "plain loop"
        if self.as_it_comes:
            return f"{title} as it comes, batch {self.micro_batch}" + ("" if self.huge_pages else ", no huge pages")
        parts = [f"micro-batch {self.micro_batch}", "bf16 weights" if self.weights == "bfloat16" else "fp32 weights"]
        parts += ["autocast"] if self.autocast else []
        parts += ["checkpointing"] if self.checkpointing else []
        parts += ["packing"] if self.packing else []
        parts += ["grouped by length"] if self.grouped else []
        parts += ["eager attention"] if self.attention == "eager" else []
        parts += [] if self.huge_pages else ["no huge pages"]
        return f"{title}: " + ", ".join(parts)


AFFINAGE = Setting("affinage")


def as_it_comes(batch: int) -> Setting:
    """Return TRL with its defaults, in the product's environment."""
    return Setting("trl", batch, weights="float32", autocast=True, checkpointing=True, as_it_comes=True)


def list_micro_batches(base: Setting, batch: int) -> list[Setting]:
    """Return the first round of the search: how many rows at once. A packed sequence is one micro-batch."""
    sizes = [size for size in MICRO_BATCHES if size <= batch and batch % size == 0]
    return [replace(base, micro_batch=size, packing=False) for size in sizes]


def list_neighbours(base: Setting, batch: int) -> list[Setting]:
    """Return of `list_micro_batches` those of at most twice and at least half the rows of `base`."""
    near = (base.micro_batch // 2, base.micro_batch, base.micro_batch * 2)
    return [setting for setting in list_micro_batches(base, batch) if setting.micro_batch in near]


def list_variations(best: Setting, batch: int) -> list[Setting]:
    """Return the second round: every other switch, one at a time, from the best of the first."""
    found = [
        replace(best, attention="eager"),
        replace(best, autocast=True),
        replace(best, weights="float32", autocast=True),
        replace(best, weights="float32"),
        replace(best, checkpointing=True),
        replace(best, huge_pages=False),
    ]
    if best.trainer == "trl":
        found.append(replace(best, micro_batch=1, packing=True))
        found += [replace(best, micro_batch=size, grouped=True) for size in (4, 8) if size <= batch]
    return found


def combine(base: Setting, better: list[Setting]) -> Setting:
    """Return `base` with the switches of all `better` settings; of two that set the same one, the first counts."""
    changes: dict[str, Any] = {}
    for setting in better:
        for name in Setting.__dataclass_fields__:
            if getattr(setting, name) != getattr(base, name):
                changes.setdefault(name, getattr(setting, name))
    return replace(base, **changes)
