"""Windows of masks: what is known, what is masked, what is hidden, and that each token weighs the same."""

import pytest
import torch

from trainers.masking import mask_windows
from trainers.noise import Rows

ROWS, LENGTH, START, END = 4000, 14, 3, 12  # prompt, response, then EOS without a loss


@pytest.fixture(scope="module")
def positions():
    covered = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
    covered[:, START:END] = True
    attended = torch.ones(ROWS, LENGTH, dtype=torch.long)
    attended[:, 0] = 0
    return covered, attended


def draw(positions, size: int, share: float = 1.0):
    rows = Rows(seed=3, step=5, index_B=torch.arange(ROWS), total=ROWS, weight_B=torch.ones(ROWS))
    return mask_windows(rows, *positions, min_noise=1e-3, size=size, share=share)


@pytest.mark.parametrize("size", [1, 4, 30])
def test_text_is_known_before_a_window_and_hidden_behind_it(positions, size: int):
    drawn = draw(positions, size)
    covered, _ = positions
    assert (drawn.masked_BL <= covered).all()
    assert drawn.masked_BL.any(1).all()
    assert (drawn.masked_BL <= drawn.hidden_BL).all()
    assert not drawn.hidden_BL[:, :START].any()
    assert drawn.hidden_BL[:, END:].all()
    behind = drawn.hidden_BL & ~drawn.masked_BL
    for masked, hidden in zip(drawn.masked_BL[:300], behind[:300], strict=True):
        first, last = masked.nonzero()[[0, -1], 0]
        assert last - first < size
        beyond = hidden.nonzero()[0, 0]  # from there on everything is hidden
        assert last < beyond and hidden[beyond:].all() and not hidden[:beyond].any()


@pytest.mark.parametrize("size", [1, 4, 30])
def test_each_token_weighs_the_same(positions, size: int):
    """The expected weight of a position is 1, so that the loss is that of the whole response."""
    drawn = draw(positions, size)
    weights = drawn.masked_BL * drawn.weight_B[:, None]
    error = weights[:, START:END].std(0) / ROWS**0.5
    assert ((weights[:, START:END].mean(0) - 1).abs() < 4 * error).all()
    assert (drawn.weight_B <= (END - START + size - 1) + 1e-4).all()


def test_a_share_of_the_rows_has_windows(positions):
    some, none, all_of_them = (draw(positions, 2, share) for share in (0.3, 0.0, 1.0))
    equal = [(some.hidden_BL == other.hidden_BL).all(1) for other in (none, all_of_them)]
    assert (equal[0] | equal[1]).all()
    assert 0.27 < (~equal[0]).float().mean() < 0.33
    assert not none.hidden_BL[:, END:].all(1).all()
