"""Arguments of [`DistillTrainer`]."""

import math
from dataclasses import dataclass, field
from typing import Any

from trainers.config_checks import Refused, refuse
from trainers.distillation import Curriculum
from trainers.mdlm_config import MDLMTrainingConfig

_REFUSED: tuple[Refused, ...] = tuple(
    (name, only, "rows come with their canvases")
    for name, only in (
        ("masking", "random"), ("loss_weights", "bound"), ("max_extra_eos", 0), ("canvas_length", None),
        ("eval_samples", 0),
    )
)  # fmt: skip


@dataclass
class DistillConfig(MDLMTrainingConfig):
    """Configuration of [`DistillTrainer`]: distillation for parallel decoding.

    Args:
        > Masks

        mask_order (`str`, *optional*, defaults to `"random"`):
            Which part of a block is masked: `"random"`, any part (dParallel, arXiv 2509.26488), or `"trajectory"`, what
            the model wrote last (d3LLM, arXiv 2601.07568).
        complementary (`bool`, *optional*, defaults to `True`):
            Whether the rest of the block is learnt too, in a second view in which it is masked instead.
        block_lengths (`list[int]`, *optional*, defaults to `[32, 32]`):
            Tokens of a block at the start and at the end of the run. d3LLM: 16 to 32.
        mask_ratios (`list[float]`, *optional*, defaults to `[0.5, 0.5]`):
            Share of a block that is masked, at the start and at the end; one token at least. d3LLM: 0 to 0.8.

        > Loss

        certainty_weight (`float`, *optional*, defaults to `2.0`):
            Weight of the entropy of right tokens, beside their cross-entropy. arXiv 2509.26488.
        certainty_temperature (`float`, *optional*, defaults to `0.5`):
            Temperature of that entropy. arXiv 2509.26488.

        > Parameters of MDLMTrainingConfig with other defaults

        remove_unused_columns (`bool`, *optional*, defaults to `False`):
            Rows bring the order in which they were written.

    Raises:
        `ValueError`: an option of [`MDLMTrainingConfig`] without a use, or a value out of range.
    """

    remove_unused_columns: bool = field(default=False, metadata={"help": "Kept off: rows bring their order."})
    mask_order: str = field(
        default="random",
        metadata={"help": "Mask any part of a block, or what was written last.", "choices": ["random", "trajectory"]},
    )
    complementary: bool = field(default=True, metadata={"help": "Learn the rest of the block too, in a second view."})
    block_lengths: list[int] = field(
        default_factory=lambda: [32, 32], metadata={"help": "Tokens of a block, at the start and at the end."}
    )
    mask_ratios: list[float] = field(
        default_factory=lambda: [0.5, 0.5], metadata={"help": "Masked share of a block, at the start and at the end."}
    )
    certainty_weight: float = field(default=2.0, metadata={"help": "Weight of the entropy of right tokens."})
    certainty_temperature: float = field(default=0.5, metadata={"help": "Temperature of that entropy."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least, most in (("block_lengths", 1, math.inf), ("mask_ratios", 0, 1)):
            values: list[Any] = getattr(self, name)
            if len(values) != 2 or not all(least <= value <= most for value in values):
                highest = f" and at most {most}" if most < math.inf else ""
                raise ValueError(f"`{name}={values}` must be two numbers of at least {least}{highest}.")
        if not 0 <= self.certainty_weight < math.inf:
            raise ValueError(f"`certainty_weight={self.certainty_weight}` must be a number of 0 or more.")
        if not 0 < self.certainty_temperature < math.inf:
            raise ValueError(f"`certainty_temperature={self.certainty_temperature}` must be above 0.")
        refuse(self, _REFUSED, "distillation")

    @property
    def curriculum(self) -> Curriculum:
        """How block length and mask ratio change in the run."""
        first, last = self.block_lengths
        low, high = self.mask_ratios
        return Curriculum((first, last), (low, high))
