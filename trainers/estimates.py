"""Estimates of a completion's log-probability under a masked diffusion LM, token by token: what policy gradients need.

A denoiser gives log p of a token in a canvas where that token is masked, and no chain rule says which canvas to take.
An estimate chooses such canvases, *views*, and the tokens that are read from each:

    log p_i  ~  sum over views v of  weight_v log p(x_i | the canvas with the positions of v masked),  for i read from v

An estimate is a pure function of a batch and of uniform draws that belong to its rows. The policy before an update, the
policy after it and the reference get the same draws, so that their ratio compares weights and nothing else (the shared
noise of VRPO, arXiv 2505.19223).
Shapes: B rows, L canvas positions, R views (of any rows), M positions read in all views, N points, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from conv_dlm.generation.settings import Part, Registry, Setting, setting
from trainers.losses import draw_masks, token_entropies, token_log_probs
from trainers.shifted import predicting


@dataclass(frozen=True)
class Completions:
    """Prompts and the completions to them, on the whole canvas that they were written on.

    Attributes:
        ids_BL (`LongTensor` [B, L]): padding, prompt, and the canvas as it was at the end.
        attention_mask_BL (`LongTensor` [B, L]): 0 for padding.
        canvas_BL (`BoolTensor` [B, L]): what the model has written, also behind the end of the text.
        text_BL (`BoolTensor` [B, L]): the completion, up to its end: the part whose log-probabilities are estimated.
        unmasked_at_BL (`LongTensor` [B, L]): the step in which each position was written; -1 if never.
    """

    ids_BL: Tensor
    attention_mask_BL: Tensor
    canvas_BL: Tensor
    text_BL: Tensor
    unmasked_at_BL: Tensor

    @property
    def prompt_BL(self) -> Tensor:
        """`BoolTensor` [B, L]: the prompts, without padding."""
        return self.attention_mask_BL.bool() & ~self.canvas_BL

    @property
    def rows_B(self) -> Tensor:
        """`LongTensor` [B]: 0 .. B-1."""
        return torch.arange(len(self.ids_BL), device=self.ids_BL.device)


@dataclass(frozen=True)
class Views:
    """What the model is shown, and which tokens are read from it.

    Attributes:
        row_R (`LongTensor` [R]): the row that each view is of.
        hidden_RL (`BoolTensor` [R, L]): positions that it shows as masks.
        read_RL (`BoolTensor` [R, L]): hidden positions whose token is read.
        weight_R (`FloatTensor` [R]): of what is read.
    """

    row_R: Tensor
    hidden_RL: Tensor
    read_RL: Tensor
    weight_R: Tensor


Draw = Callable[[int, int], Tensor]  # (purpose, n) -> n uniform draws for each row, FloatTensor [B, n] in [0, 1)


@dataclass(frozen=True)
class Estimate(Part):
    """Base of all estimates: a frozen dataclass with its settings.

    Attributes:
        follows_rollout: whether the views are canvases on which the model wrote, or could have written, from left to
            right or in the order of the rollout. Only such views fit models that see block by block.
        exact_order: whether the order in which the text was written has to be known, so that no token may have been
            taken back.
    """

    follows_rollout: ClassVar[bool] = False
    exact_order: ClassVar[bool] = False

    def __call__(self, completions: Completions, draw: Draw) -> Views:
        """The views of a batch; `draw` gives the same draws in each call."""
        raise NotImplementedError


SETTINGS: dict[str, Setting] = {}  # of all estimates, by name
ESTIMATES: Registry[type[Estimate]] = Registry("estimate of log-probabilities", SETTINGS, reserved=())


@ESTIMATES.register("one_step")
@dataclass(frozen=True)
class OneStep(Estimate):
    """All tokens from one canvas on which the whole completion is masked: a mean-field guess, by one forward.

    Some of the prompt is masked too, differently in each pass over a batch, which regularises (diffu-GRPO, arXiv
    2504.12216).
    """

    prompt_mask_share: float = setting(
        0.15, "share of the prompt that is masked too", low=0, high=1, source="arXiv 2504.12216"
    )

    def __call__(self, completions: Completions, draw: Draw) -> Views:
        uniform_BL = draw(0, completions.ids_BL.shape[1])
        in_prompt_BL = completions.prompt_BL & (uniform_BL < self.prompt_mask_share)
        hidden_BL = completions.canvas_BL | in_prompt_BL
        return Views(completions.rows_B, hidden_BL, completions.text_BL, torch.ones_like(uniform_BL[:, 0]))


@ESTIMATES.register("coupled")
@dataclass(frozen=True)
class Coupled(Estimate):
    """Pairs of complementary masks: every token is read once a pair, with some of the others known (arXiv 2506.20639).

    One mask of a pair hides a position with probability t, drawn from `coupled_low` to 1 - `coupled_low`; the other
    hides the rest. What is read is divided by the number of pairs. As a token is read where it is masked, it sees fewer
    known tokens than a uniform t would show: the estimate is low, and its variance is small. What is behind the end of
    a completion is hidden in both.
    """

    coupled_pairs: int = setting(1, "pairs of complementary masks; each takes two forwards", low=1, high=64)
    coupled_low: float = setting(
        0.2, "lowest share of masks in a pair; the highest is 1 less this", low=0, high=0.5, source="arXiv 2506.20639"
    )

    def __call__(self, completions: Completions, draw: Draw) -> Views:
        text_BL, hidden, read = completions.text_BL, [], []
        behind_BL = completions.canvas_BL & ~text_BL
        for pair in range(self.coupled_pairs):
            share_B1 = self.coupled_low + (1 - 2 * self.coupled_low) * draw(2 * pair, 1)
            first_BL = draw(2 * pair + 1, text_BL.shape[1]) < share_B1
            for mask_BL in (first_BL & text_BL, ~first_BL & text_BL):
                hidden.append(mask_BL | behind_BL)
                read.append(mask_BL)
        views = len(hidden)
        weight = 1 / self.coupled_pairs
        row_R = completions.rows_B.repeat(views)
        return Views(row_R, torch.cat(hidden), torch.cat(read), torch.full(row_R.shape, weight, device=row_R.device))


@ESTIMATES.register("trajectory")
@dataclass(frozen=True)
class Trajectory(Estimate):
    """Every token from the canvas on which the rollout wrote it: exact for the order that was taken.

    Each step of the rollout is a view (TraceRL, arXiv 2509.06949; CJ-GRPO, arXiv 2509.23924). With a stride,
    neighbouring steps of a row share a view, which hides what was written in any of them. The order in which the rule
    wrote is taken as given: choosing it has no log-probability here.
    """

    trajectory_stride: int = setting(
        1, "neighbouring steps of the rollout that share a view; more take fewer forwards", low=1,
        source="arXiv 2509.06949",
    )  # fmt: skip
    follows_rollout = True
    exact_order = True

    def __call__(self, completions: Completions, draw: Draw) -> Views:
        return in_order(completions, completions.unmasked_at_BL, self.trajectory_stride)


@ESTIMATES.register("autoregressive")
@dataclass(frozen=True)
class Autoregressive(Estimate):
    """Every token from a canvas on which all tokens before it are known: the chain rule, one view per token.

    Exact for rollouts that are written so, as by `block_length=1` (JustGRPO, arXiv 2601.15165).
    """

    follows_rollout = True

    def __call__(self, completions: Completions, draw: Draw) -> Views:
        places_BL = torch.arange(completions.ids_BL.shape[1], device=completions.ids_BL.device)
        return in_order(completions, places_BL.expand_as(completions.ids_BL), 1)


@ESTIMATES.register("elbo")
@dataclass(frozen=True)
class Elbo(Estimate):
    """The evidence lower bound by quadrature over the noise level (GDPO, arXiv 2510.08554).

    The noise levels t and their weights are those of Gauss and Legendre; only the masks are drawn. So the sum over
    tokens estimates the bound without the noise of drawing t. It says something of sequences alone, since a token that
    no mask hits counts 0: use it with `importance_sampling_level="sequence"`. What is behind the end of a completion is
    hidden.
    """

    elbo_points: int = setting(2, "noise levels, each a forward", low=1, high=64, source="arXiv 2510.08554")

    def __call__(self, completions: Completions, draw: Draw) -> Views:
        text_BL, hidden, read, weights = completions.text_BL, [], [], []
        behind_BL = completions.canvas_BL & ~text_BL
        empty_B1 = ~text_BL.any(1, keepdim=True)  # has nothing to be read, and something to be drawn from
        drawn_BL = text_BL | (empty_B1 & completions.canvas_BL)
        nodes_N, weights_N = np.polynomial.legendre.leggauss(self.elbo_points)
        for point, (node, weight) in enumerate(zip(nodes_N, weights_N, strict=True)):
            level_B = torch.full((len(text_BL),), (node + 1) / 2, device=text_BL.device)
            mask_BL, weight_B = draw_masks(drawn_BL, level_B, draw(point, text_BL.shape[1]))
            hidden.append(mask_BL | behind_BL)
            read.append(mask_BL & text_BL)
            weights.append(weight_B * (weight / 2))
        row_R = completions.rows_B.repeat(self.elbo_points)
        return Views(row_R, torch.cat(hidden), torch.cat(read), torch.cat(weights))


def in_order(completions: Completions, step_BL: Tensor, stride: int) -> Views:
    """The views of a text that was written in the order of `step_BL`: one for every `stride` steps that wrote a token.

    Args:
        step_BL (`LongTensor` [B, L]): when each position was written; negative: never.
        stride (`int`): neighbouring steps that share a view.
    """
    never = torch.iinfo(step_BL.dtype).max
    step_BL = step_BL.masked_fill(step_BL < 0, never).masked_fill(~completions.canvas_BL, -1)
    group_BL = ranks(step_BL, completions.text_BL) // stride
    count = int(group_BL.max()) + 1 if completions.text_BL.any() else 1
    groups_G11 = torch.arange(count, device=step_BL.device)[:, None, None]
    read_GBL = completions.text_BL & (group_BL == groups_G11)
    first_GB1 = step_BL.masked_fill(~read_GBL, never).amin(2, keepdim=True)
    hidden_GBL = completions.canvas_BL & (step_BL >= first_GB1)
    used_GB = read_GBL.any(2)
    used_GB[0] = True  # a row without text keeps a view, so that no process is without one
    rows_GB = completions.rows_B.expand(count, -1)
    row_R = rows_GB[used_GB]
    return Views(row_R, hidden_GBL[used_GB], read_GBL[used_GB], torch.ones(row_R.shape, device=row_R.device))


def ranks(values_BL: Tensor, kept_BL: Tensor) -> Tensor:
    """The rank of each value among the different values of its row's kept positions, from 0; -1 where nothing is kept.

    Returns:
        `LongTensor` [B, L].
    """
    never = torch.iinfo(values_BL.dtype).max
    sorted_BL, order_BL = values_BL.masked_fill(~kept_BL, never).sort(stable=True, dim=1)
    grows_BL = torch.ones_like(sorted_BL)
    grows_BL[:, 1:] = (sorted_BL[:, 1:] > sorted_BL[:, :-1]).long()
    return (grows_BL.cumsum(1) - 1).gather(1, order_BL.argsort(1)).masked_fill(~kept_BL, -1)


def log_probs(
    model: Any,
    completions: Completions,
    views: Views,
    mask_token_id: int,
    temperature: float = 1.0,
    shifted: Any = None,
) -> tuple[Tensor, Tensor]:
    """Ask the model for all views in one forward.

    Args:
        model: its `forward` takes a boolean `logits_to_keep` [R, L] and gives the logits [M, V] of those positions.
        temperature (`float`): tokens are drawn from p^(1/temperature), whose log-probabilities these are.
        shifted: the model whose `shift_logits` counts, where `model` is a wrapper.

    Returns:
        Two `FloatTensor` [B, L]: the estimate, with gradients, and the mean entropy of the read distributions, without;
        both 0 where nothing is read.
    """
    ids_RL = completions.ids_BL[views.row_R]
    logits_MV = model(
        input_ids=ids_RL.masked_fill(views.hidden_RL, mask_token_id),
        attention_mask=completions.attention_mask_BL[views.row_R],
        logits_to_keep=predicting(model if shifted is None else shifted, views.read_RL),
        use_cache=False,
    ).logits
    if temperature != 1.0:
        logits_MV = logits_MV / temperature
    read_M = token_log_probs(logits_MV, ids_RL[views.read_RL][:, None], mask_token_id).squeeze(1)
    times_BL = _by_row(torch.ones_like(read_M), completions, views)
    entropy_BL = _by_row(token_entropies(logits_MV, mask_token_id), completions, views) / times_BL.clamp(min=1)
    weight_M = views.weight_R[:, None].expand_as(views.read_RL)[views.read_RL]
    return _by_row(read_M * weight_M.to(read_M.dtype), completions, views), entropy_BL


def _by_row(values_M: Tensor, completions: Completions, views: Views) -> Tensor:
    """What was read in all views, summed at its row and position: `FloatTensor` [B, L]."""
    view_M, place_M = views.read_RL.nonzero(as_tuple=True)
    empty_BL = torch.zeros(completions.ids_BL.shape, dtype=values_M.dtype, device=values_M.device)
    return empty_BL.index_put((views.row_R[view_M], place_M), values_M, accumulate=True)
