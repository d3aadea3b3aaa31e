"""A policy that unmasks, learnt by rewards (after arXiv 2512.09106): its weights at first, its rewards and its loss.

The model stays as it is; what is trained is when each of its candidates is committed. A prompt is answered several
times, and a right answer is worth the more the fewer forwards it took:

    reward = judged * (1 - forwards / canvas length) ^ speed_weight
    advantage = (reward - mean of the prompt's answers) / deviation of the prompt's answers
    loss = -mean over steps and rows of advantage * log p(what was committed)

Shapes: B rows, C canvas positions, G answers to a prompt, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from conv_dlm.generation.parts.learned import policy_log_prob, policy_logits
from conv_dlm.generation.parts.rules import Head
from trainers.drafts import stage_advantages
from trainers.recorded_runs import RecordedStep


def new_policy(width: int, middle: float, slope: float, generator: torch.Generator) -> Head:
    """A policy that is a soft threshold of confidence at first, p = sigmoid(slope (c - middle)), so that its first
    answers are worth something."""

    def drawn(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * columns**-0.5

    return {
        "in.weight": drawn(width, 2),
        "in.bias": torch.zeros(width),
        "attention.weight": drawn(3 * width, width),
        "output.weight": drawn(width, width),
        "up.weight": drawn(4 * width, width),
        "up.bias": torch.zeros(4 * width),
        "down.weight": drawn(width, 4 * width),
        "final.weight": torch.zeros(width),
        "slope": torch.tensor(slope),
        "middle": torch.tensor(middle),
    }


def speed_rewards(judged: Sequence[float | None], forwards: Sequence[int], length: int, weight: float) -> Tensor:
    """FloatTensor [B]: what each answer is worth; one that nobody can judge is worth nothing."""
    saved_B = 1 - torch.tensor(forwards, dtype=torch.float32).clamp(max=length) / length
    return torch.tensor([0.0 if value is None else float(value) for value in judged]) * saved_B**weight


def group_advantages(rewards_B: Tensor, group: int) -> Tensor:
    """FloatTensor [B]: rewards less the mean of their group of G neighbours, over its deviation."""
    return stage_advantages(rewards_B[:, None], group, "group").squeeze(1)


def step_loss(head: Head, step: RecordedStep, advantages_B: Tensor) -> Tensor:
    """-A log p of what a step committed, summed over rows."""
    logits_BC = policy_logits(head, step.confidence_BC, step.masked_BC, step.block_BC)
    return -(advantages_B * policy_log_prob(logits_BC, step.eligible_BC, step.commit_BC)).sum()
