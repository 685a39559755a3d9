"""An adapter that learned nothing, for trying an export before a training: random, and large enough to be seen.

A new adapter changes nothing at all (its B is zero), so an export of it could not show a wrong merge.
"""

from pathlib import Path

import torch
from transformers import AutoConfig

from app.contracts.job import TrainingJob
from app.training.assembly import build_unloaded
from app.training.lora import LoraLayer, attach, save_adapter

SHARE = 0.05
"""Size of the change beside the weights that it changes, as root mean squares, if those are about 0.02."""
_WEIGHT_SIZE = 0.02


def write_untrained(job: TrainingJob, folder: Path) -> None:
    """Write an adapter of the job's shape for the job's model; the model's weights are not read.

    Raises Invalid for target modules that the model does not have.
    """
    config = AutoConfig.from_pretrained(job.model.path, local_files_only=True, trust_remote_code=False)
    lora = job.lora.model_copy(update={"use_dora": False})  # its lengths are those of weights that are not loaded here
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.optimization.seed)
        model = build_unloaded(config, device=torch.device("meta"), kind="cpu", dtype="float32", checkpointing=False)
        attach(model, lora)
        for module in model.modules():
            if isinstance(module, LoraLayer):
                rank, inputs = module.lora_A.shape
                outputs = module.lora_B.shape[0]
                size = (SHARE * _WEIGHT_SIZE / (lora.scale * rank**0.5)) ** 0.5
                module.lora_A = torch.nn.Parameter(torch.randn(rank, inputs) * size)
                module.lora_B = torch.nn.Parameter(torch.randn(outputs, rank) * size)
    save_adapter(model, folder, job.model.model_id, lora)
