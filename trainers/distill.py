"""Distillation of a masked diffusion LM for parallel decoding, from answers that it has written itself.

First the answers, with the order in which they were written; here those of the small model of `configs/embedded/`:

    python -m trainers.trajectories --config configs/distill/embedded_trajectories.yaml

Then full training on them (dParallel's loss), or LoRA, of LLaDA-8B:

    accelerate launch -m trainers.distill --config configs/distill/embedded.yaml
    accelerate launch -m trainers.distill --config configs/distill/llada_8b_lora.yaml

`--help` lists all arguments. A YAML file sets defaults and the command line overrides them; an unknown key is an error.
In a clone, `train_distill.py` is the same: `accelerate launch train_distill.py ...`.
"""

import sys
from collections.abc import Sequence
from functools import partial

from trl import TrlParser

from trainers import DistillConfig, DistillTrainer
from trainers.distill_data import TrajectoryDataArguments
from trainers.running import run_script
from trainers.scripts import Arguments, finetune
from trainers.scripts import make_parser as make_parser_for


def make_parser() -> TrlParser:
    return make_parser_for(DistillConfig, __doc__, TrajectoryDataArguments)


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the arguments say, which are those of the command line if `None`. Raises what is wrong."""
    finetune(DistillTrainer, Arguments(*make_parser().parse_args_and_config(argv)))


def run(argv: Sequence[str] | None = None) -> int:
    """As `main`, for a shell: returns the exit status, and what is wrong is one sentence on standard error."""
    return run_script(
        "trainers.distill",
        lambda: Arguments(*make_parser().parse_args_and_config(argv)),
        partial(finetune, DistillTrainer),
    )


if __name__ == "__main__":
    sys.exit(run())
