"""Rewards in the middle of denoising (MDPO, arXiv 2508.13148): what a draft was worth, and what each token made of it.

After any step a canvas is a draft of the answer: the tokens that are there, and the model's best guess at every mask. A
rollout is cut into N stages of as many steps, and the draft at the end of each is judged: r_1 .. r_N, the last of them
the answer's own reward. The tokens that were written in a stage get the credit for what it changed, and for what came
of it:

    value_n = (r_n - r_{n-1}) + mean of r_{n+1} .. r_N,   with r_0 = 0, and r_N itself in place of the mean for n = N
    advantage_n = (value_n - its mean over the prompt's answers) / its deviation over them

Shapes: B rows, C canvas positions, S steps, N stages.
"""

import torch
from torch import Tensor

SMALL = 1e-4  # added to deviations, as in TRL


def stages_of(unmasked_at_BC: Tensor, text_BC: Tensor, stages: int) -> tuple[Tensor, Tensor]:
    """In which stage each token was written, and the last step of each stage.

    Args:
        unmasked_at_BC (`LongTensor` [B, C]): the step in which each position was written.
        text_BC (`BoolTensor` [B, C]): positions of the text, whose steps are shared out.

    Returns:
        `LongTensor` [B, C], from 0 to N - 1, and `LongTensor` [B, N].
    """
    steps_B1 = unmasked_at_BC.masked_fill(~text_BC, 0).amax(1, keepdim=True) + 1
    stage_BC = (unmasked_at_BC.clamp(min=0) * stages // steps_B1).clamp(max=stages - 1)
    ends_1N = torch.arange(1, stages + 1, device=unmasked_at_BC.device)[None]
    last_BN = -(-ends_1N * steps_B1 // stages) - 1
    return stage_BC, last_BN


def stage_values(rewards_BN: Tensor) -> Tensor:
    """What the tokens of each stage get credit for: `FloatTensor` [B, N], of the drafts' rewards [B, N]."""
    stages = rewards_BN.shape[1]
    before_BN = torch.nn.functional.pad(rewards_BN[:, :-1], (1, 0))
    behind_BN = torch.nn.functional.pad(rewards_BN[:, 1:].flip(1).cumsum(1).flip(1), (0, 1))
    count_N = torch.arange(stages - 1, -1, -1, device=rewards_BN.device).clamp(min=1)
    mean_BN = behind_BN / count_N
    mean_BN[:, -1] = rewards_BN[:, -1]
    return rewards_BN - before_BN + mean_BN


def stage_advantages(values_BN: Tensor, group: int, scale: str) -> Tensor:
    """Values less the mean of their group of neighbouring rows, `FloatTensor` [B, N].

    Args:
        values_BN (`FloatTensor` [B, N]): see `stage_values`.
        group (`int`): answers to a prompt.
        scale (`str`): what they are divided by: TRL's `scale_rewards`: the deviation of the "group", of the "batch", or
            "none".
    """
    grouped_PGN = values_BN.view(-1, group, values_BN.shape[1])
    centred_BN = (grouped_PGN - grouped_PGN.mean(1, keepdim=True)).flatten(0, 1)
    if scale == "none":
        return centred_BN
    if scale == "batch":
        return centred_BN / (values_BN.std(0, keepdim=True) + SMALL)
    return centred_BN / (grouped_PGN.std(1).repeat_interleave(group, 0) + SMALL)
