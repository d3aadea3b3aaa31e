"""Estimates of log-probabilities, against what can be computed: every mask of a short completion, and real rollouts."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from conv_dlm.models import A2DQwen3LMHeadModel, DreamModel, SDARForCausalLM
from tests.tiny import widened
from tests.trainers.test_families import TINY
from trainers import noise
from trainers.estimates import ESTIMATES, Completions, Coupled, Elbo, Estimate, OneStep, Trajectory, log_probs, ranks

MASK, PROMPT, LENGTH = 3, 3, 4
Table = Callable[[frozenset[int], int], float]  # masked positions, one of them -> its log-probability


def completions_of(rows: int, unmasked_at: list[int] | None = None, behind: int = 0) -> Completions:
    """The same completion so many times, in a canvas with `behind` further positions."""
    canvas = LENGTH + behind
    ids = torch.tensor([7, 8, 9, *range(20, 20 + canvas)]).expand(rows, -1)
    place = torch.arange(PROMPT + canvas).expand(rows, -1)
    steps = [-1] * PROMPT + (unmasked_at or list(range(LENGTH))) + [-1] * behind
    return Completions(
        ids_BL=ids,
        attention_mask_BL=torch.ones_like(ids),
        canvas_BL=place >= PROMPT,
        text_BL=(place >= PROMPT) & (place < PROMPT + LENGTH),
        unmasked_at_BL=torch.tensor(steps).expand(rows, -1),
    )


@pytest.fixture(scope="module")
def table(tiny_llada: Any) -> Table:
    """log p of each token of `completions_of(1)`, for every set of masks that it is in."""
    known = {}
    ids = completions_of(1).ids_BL
    for size in range(1, LENGTH + 1):
        for masked in itertools.combinations(range(LENGTH), size):
            canvas = ids.clone()
            canvas[0, [PROMPT + place for place in masked]] = MASK
            with torch.no_grad():
                logits = tiny_llada(canvas).logits[0]
            logits[:, MASK] = -math.inf
            log_p = logits.log_softmax(-1)
            for place in masked:
                known[frozenset(masked), place] = float(log_p[PROMPT + place, ids[0, PROMPT + place]])
    return lambda masked, place: known[masked, place]


def estimated(model: Any, estimate: Estimate, completions: Completions, seed: int = 0) -> Tensor:
    """[B, L], each row with draws of its own."""
    seeds = noise.row_seeds(seed, 0, completions.rows_B)
    views = estimate(completions, partial(noise.uniform, seeds))
    assert not (views.read_RL & ~views.hidden_RL).any()
    with torch.no_grad():
        return log_probs(model, completions, views, MASK)[0][:, PROMPT : PROMPT + LENGTH]


def exact_bound(table: Table) -> float:
    """The evidence lower bound: log p of the text, averaged over all orders in which it can be written."""
    total = 0.0
    for order in itertools.permutations(range(LENGTH)):
        total += sum(table(frozenset(order[n:]), order[n]) for n in range(LENGTH))
    return total / math.factorial(LENGTH)


# Those that are exact


@pytest.mark.parametrize("steps", [[0, 1, 2, 3], [2, 0, 3, 1], [0, 0, 4, 4], [9, 1, 1, 5], [0, 0, 0, 0]])
def test_a_trajectory_is_exact_for_its_order(tiny_llada: Any, table: Table, steps: list[int]) -> None:
    found = estimated(tiny_llada, Trajectory(), completions_of(2, steps))
    expected = [table(frozenset(i for i in range(LENGTH) if steps[i] >= steps[n]), n) for n in range(LENGTH)]
    torch.testing.assert_close(found, torch.tensor(expected).expand(2, -1), rtol=1e-4, atol=1e-4)


def test_neighbouring_steps_share_a_view(tiny_llada: Any, table: Table) -> None:
    completions = completions_of(1, [5, 0, 9, 3])
    views = Trajectory(trajectory_stride=2)(completions, partial(noise.uniform, torch.zeros(1, dtype=torch.long)))
    assert len(views.row_R) == 2
    found = estimated(tiny_llada, Trajectory(trajectory_stride=2), completions)
    every, last = frozenset(range(LENGTH)), frozenset([0, 2])
    expected = [table(last, 0), table(every, 1), table(last, 2), table(every, 3)]
    torch.testing.assert_close(found[0], torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_from_left_to_right_is_the_chain_rule(tiny_llada: Any, table: Table) -> None:
    found = estimated(tiny_llada, ESTIMATES["autoregressive"](), completions_of(1, [3, 2, 1, 0]))
    expected = [table(frozenset(range(n, LENGTH)), n) for n in range(LENGTH)]
    torch.testing.assert_close(found[0], torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_one_step_reads_all_from_the_wholly_masked_text(tiny_llada: Any, table: Table) -> None:
    every = frozenset(range(LENGTH))
    found = estimated(tiny_llada, OneStep(prompt_mask_share=0.0), completions_of(1))
    torch.testing.assert_close(found[0], torch.tensor([table(every, n) for n in range(LENGTH)]), rtol=1e-4, atol=1e-4)


def test_one_step_masks_some_of_the_prompt() -> None:
    completions = completions_of(4000)
    seeds = noise.row_seeds(0, 0, completions.rows_B)
    views = OneStep(prompt_mask_share=0.15)(completions, partial(noise.uniform, seeds))
    share = views.hidden_RL[:, :PROMPT].float().mean()
    assert abs(float(share) - 0.15) < 4 * math.sqrt(0.15 * 0.85 / (4000 * PROMPT))
    assert not views.read_RL[:, :PROMPT].any()


# Those that draw: mean and variance


def mean_and_error(sums: Tensor) -> tuple[float, float]:
    return float(sums.mean()), float(sums.std()) / math.sqrt(len(sums))


def test_the_quadrature_has_no_bias(tiny_llada: Any, table: Table) -> None:
    """Of 4 tokens the bound is a polynomial of degree 3 in t, which two points integrate exactly."""
    mean, error = mean_and_error(estimated(tiny_llada, Elbo(elbo_points=2), completions_of(1500)).sum(1))
    assert abs(mean - exact_bound(table)) < 4 * error


def test_coupled_masks_read_every_token_once(tiny_llada: Any, table: Table) -> None:
    completions = completions_of(1500)
    estimate = Coupled(coupled_pairs=1, coupled_low=0.2)
    seeds = noise.row_seeds(0, 0, completions.rows_B)
    views = estimate(completions, partial(noise.uniform, seeds))
    times = torch.zeros(completions.ids_BL.shape).index_add(0, views.row_R, views.read_RL.float())
    assert torch.equal(times.bool(), completions.text_BL) and times.max() == 1

    # Its mean: a token is read where its own mask hides it, averaged over masks of shares from 0.2 to 0.8.
    expected = 0.0
    for hidden in itertools.product([True, False], repeat=LENGTH):
        size = sum(hidden)
        levels = torch.linspace(0.2, 0.8, 2001, dtype=torch.float64)
        chance = float((levels**size * (1 - levels) ** (LENGTH - size)).mean())
        for view in (hidden, [not one for one in hidden]):
            masked = frozenset(n for n in range(LENGTH) if view[n])
            expected += chance * sum(table(masked, n) for n in masked)
    sums = estimated(tiny_llada, estimate, completions).sum(1)
    mean, error = mean_and_error(sums)
    assert abs(mean - expected) < 4 * error
    bound = estimated(tiny_llada, Elbo(elbo_points=2), completions).sum(1)  # as many forwards
    assert sums.var() < bound.var()
    assert estimated(tiny_llada, Coupled(coupled_pairs=4), completions).sum(1).var() < 0.5 * sums.var()


# What is behind the end, and rows of their own


@pytest.mark.parametrize("name", ESTIMATES)
def test_what_is_behind_the_end_is_hidden_and_not_read(name: str) -> None:
    completions = completions_of(5, behind=3)
    seeds = noise.row_seeds(0, 0, completions.rows_B)
    views = ESTIMATES[name]()(completions, partial(noise.uniform, seeds))
    assert views.hidden_RL[:, PROMPT + LENGTH :].all()
    assert not views.read_RL[:, PROMPT + LENGTH :].any()


@pytest.mark.parametrize("name", ESTIMATES)
def test_an_empty_row_takes_part(name: str, tiny_llada: Any) -> None:
    """As truncated completions are left out by TRL: no process may be without a forward."""
    completions = completions_of(1)
    completions = Completions(**vars(completions) | {"text_BL": torch.zeros_like(completions.text_BL)})
    assert estimated(tiny_llada, ESTIMATES[name](), completions).tolist() == [[0.0] * LENGTH]


def test_ranks() -> None:
    values = torch.tensor([[7, 3, 3, 9, 1], [5, 5, 5, 5, 5]])
    kept = torch.tensor([[True, True, True, True, False], [False, True, False, True, True]])
    assert ranks(values, kept).tolist() == [[1, 0, 0, 2, -1], [-1, 0, -1, 0, 0]]


# Real rollouts


def wide(cls: Any, **fields: Any) -> Any:
    return widened(cls(cls.config_class(**TINY, **fields)))


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (A2DQwen3LMHeadModel, {"decode_type": "conv", "steps": 5}),
        (DreamModel, {"decode_type": "llada", "steps": 8, "block_length": 8}),  # shifted logits
        (SDARForCausalLM, {"decode_type": "threshold", "threshold": 0.2}),  # block by block
    ],
)
def test_a_trajectory_gives_what_the_rollout_drew_from(cls: Any, options: dict[str, Any]) -> None:
    """`generate` returns log-probabilities as it commits; prompts of two lengths, so that one is padded."""
    fields = {"block_length": 4} if cls is SDARForCausalLM else {}
    model = wide(cls, **fields)
    ids = torch.tensor([[0, 0, 0, 21, 22], [31, 32, 33, 34, 35]])
    mask = torch.tensor([[0, 0, 0, 1, 1], [1] * 5])
    output = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=16, temperature=1.0, top_k=0, return_dict_in_generate=True,
        output_history=True, generator=[torch.Generator().manual_seed(n) for n in range(2)], **options,
    )  # fmt: skip
    written = output.unmasked_at >= 0
    completions = Completions(
        ids_BL=output.history[-1],
        attention_mask_BL=torch.cat([mask, torch.ones(2, 16, dtype=torch.long)], 1),
        canvas_BL=torch.arange(21).expand(2, -1) >= 5,
        text_BL=written & (output.log_probs != 0),
        unmasked_at_BL=output.unmasked_at,
    )
    assert completions.text_BL.sum() > 16
    views = Trajectory()(completions, partial(noise.uniform, torch.zeros(2, dtype=torch.long)))
    with torch.no_grad():
        found, _ = log_probs(model, completions, views, MASK)
    expected = output.log_probs.masked_fill(~completions.text_BL, 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
