"""The plain loops do what their papers say: they write what ours do, at the cost of their forwards."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from conv_dlm.cost.baselines import dual_cache_loop, threshold_loop
from conv_dlm.cost.floor import ForwardSize
from conv_dlm.cost.meters import ForwardLog

PROMPT = torch.randint(5, 250, (1, 7), generator=torch.Generator().manual_seed(0))
MASK = 3


@pytest.fixture
def model(make_llada: Callable[..., Any]) -> Any:
    return make_llada(eos_token_id=None)


@pytest.mark.parametrize(("block_length", "threshold"), [(8, 0.1), (24, 0.12), (10, 1.0)])
@torch.no_grad()
def test_threshold_writes_what_ours_does(model: Any, block_length: int, threshold: float) -> None:
    settings = {"block_length": block_length, "threshold": threshold}
    log = ForwardLog(model)
    theirs = threshold_loop(lambda ids: model(input_ids=ids).logits, PROMPT, MASK, 24, **settings)
    forwards = len(log.forwards)
    ours = model.generate(
        PROMPT, decode_type="threshold", max_new_tokens=24, return_dict_in_generate=True, **settings
    )
    assert torch.equal(theirs, ours.sequences)
    assert forwards == ours.forwards.item()
    assert set(log.forwards[:forwards]) == {ForwardSize(1, 31, 31, 31)}
    assert forwards == 24 if threshold == 1 else 3 < forwards < 24, "some steps decide one, and some several"


@torch.no_grad()
def test_rows_of_a_batch_go_at_their_own_pace(model: Any) -> None:
    rows = torch.randint(5, 250, (3, 7), generator=torch.Generator().manual_seed(1))
    forward = lambda ids: model(input_ids=ids).logits  # noqa: E731
    together = threshold_loop(forward, rows, MASK, 16, 16, 0.1)
    alone = [threshold_loop(forward, row[None], MASK, 16, 16, 0.1) for row in rows]
    assert torch.equal(together, torch.cat(alone))


@torch.no_grad()
def test_dual_cache_writes_what_ours_does(model: Any) -> None:
    settings = {"block_length": 8, "threshold": 0.1}
    log = ForwardLog(model)
    theirs = dual_cache_loop(model, PROMPT, MASK, 32, **settings)
    whole, block = ForwardSize(1, 39, 39, 39), ForwardSize(1, 8, 39, 8)
    assert log.forwards.count(whole) == 4 and set(log.forwards) == {whole, block}
    log.remove()
    cached = {"decode_type": "threshold", "max_new_tokens": 32, "cache_implementation": "dual", **settings}
    assert torch.equal(theirs, model.generate(PROMPT, **cached))
    exact = threshold_loop(lambda ids: model(input_ids=ids).logits, PROMPT, MASK, 32, **settings)
    assert not torch.equal(theirs, exact), "what is kept grows stale; the cache isn't read"


@torch.no_grad()
def test_dual_cache_is_exact_where_a_block_needs_one_forward(model: Any) -> None:
    log = ForwardLog(model)
    theirs = dual_cache_loop(model, PROMPT, MASK, 24, block_length=8, threshold=0.0)
    assert len(log.forwards) == 3
    assert torch.equal(theirs, threshold_loop(lambda ids: model(input_ids=ids).logits, PROMPT, MASK, 24, 8, 0.0))
    assert not bool((theirs == MASK).any())
