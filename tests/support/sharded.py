"""Train a float32 tiny model sharded over the processes of torchrun: sharded.py BASE FOLDER. Rank 0
prints its log.

4 bit and FSDP together do not run on a CPU: this script runs all the rest that FSDP meets, the
experts without tokens first of all.
"""

import json
import sys
from pathlib import Path

from bimedix_utils import training
from bimedix_utils.training import models, sharded

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.tiny import RECIPE, examples


def as_on_gpus(state: type, kind: object) -> None:
    """Let accelerate take its processes for ones with GPUs: for others it would not shard."""
    real = state.__init__

    def init(self, *args, **kwargs):
        real(self, *args, **kwargs)
        if state._shared_state["distributed_type"] == "MULTI_CPU":
            state._shared_state["distributed_type"] = kind

    state.__init__ = init

    import torch
    from torch.distributed.fsdp import _init_utils

    # FSDP takes the device "cpu" for "cpu:0" and then finds the two unequal.
    _init_utils._get_device_from_device_id = lambda *_: torch.device("cpu")


def main() -> None:
    base, folder = Path(sys.argv[1]), Path(sys.argv[2])
    torch = models.setup_torch(1)
    from accelerate import DistributedType, PartialState
    from transformers import AutoModelForCausalLM, AutoTokenizer

    state = PartialState(cpu=True)
    if sys.argv[3:] == ["stock"]:  # as transformers has it: experts without tokens are not called
        sharded._forward = lambda block, hidden: type(block).forward(block, hidden)
    if state.num_processes > 1:
        sharded.set_fsdp_environment(gpu=False)
        as_on_gpus(PartialState, DistributedType.MULTI_GPU)
        from bimedix_utils.training.trainer import StepTrainer

        StepTrainer._save_checkpoint = lambda *_: (
            None
        )  # gathering frees memory that a CPU's tensors still share
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(1)
    adapted = models.add_adapters(model, 4, 8)
    rows = examples(tokenizer)
    if state.num_processes > 1:
        outcome = training.train(
            adapted, tokenizer, rows, rows[:4], RECIPE, folder, parallel="fsdp"
        )
    else:
        with sharded.run_every_expert(
            adapted
        ):  # alone, an expert without tokens would have no gradient instead of one of zeros
            outcome = training.train(adapted, tokenizer, rows, rows[:4], RECIPE, folder)
    if state.is_main_process:
        print("LOG", json.dumps([outcome.log, outcome.resumed_at]))


if __name__ == "__main__":
    main()
