"""Progressive unmasking (PUMA): masks as decoding makes them, and the minimiser of the loss."""

import itertools
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset

from conv_dlm.word_problems import rows
from tests.trainers.conftest import ROWS, turns
from trainers import MDLMTrainingConfig
from trainers.losses import token_log_probs
from trainers.progressive import Chains, confidences, left_masked, show

MASK = 3  # of the tiny model


def endless() -> Any:
    yield from itertools.cycle(turns(*row) for row in ROWS)


@pytest.fixture
def make(make_trainer):
    def make(**settings: Any):
        defaults = dict(masking="progressive", progressive_stages=4, max_steps=8, save_steps=4)
        return make_trainer(train_dataset=IterableDataset.from_generator(endless), **defaults | settings)

    return make


# The mathematics


def test_the_share_that_is_left():
    counts = torch.tensor([1, 3, 8, 9])
    left = [left_masked(counts, stage, 4).tolist() for stage in range(4)]
    assert left == [[1, 3, 8, 9], [1, 3, 6, 7], [1, 2, 4, 5], [1, 1, 2, 3]]


def test_the_surest_are_shown():
    masked = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 0, 0, 1]], dtype=torch.bool)
    confidence = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.2, 0.2, 0.1])
    shown = show(masked, confidence, torch.tensor([2, 2]))
    # of equals the earlier one is shown first
    assert shown.int().tolist() == [[0, 1, 0, 1, 0], [0, 1, 0, 0, 1]]


def test_confidence_is_that_of_what_may_be_said():
    logits = torch.tensor([[0.0, 1.0, 2.0, 9.0]])
    expected = torch.tensor([0.0, 1.0, 2.0]).log_softmax(0).max()
    torch.testing.assert_close(confidences(logits, 3), expected[None])


def test_the_true_conditionals_are_the_minimum():
    """Pairs of tokens with a known distribution: at the true conditionals the expected gradient is 0, elsewhere not.

    Both positions are masked first; the surer one is shown, by its true token, and the other is predicted from it.
    """
    pairs = torch.tensor([[0.3, 0.05], [0.15, 0.5]], dtype=torch.float64)  # p(first, second)

    def gradient(error: float) -> float:
        first, second = pairs.sum(1).log(), pairs.sum(0).log()
        tables = [first + torch.tensor([error, 0.0]), second.clone()]  # predicted when both are masked
        given_first, given_second = (pairs / pairs.sum(1, keepdim=True)).log(), (pairs / pairs.sum(0)).log().T
        parameters = [
            table.requires_grad_() for table in (*tables, given_first.contiguous(), given_second.contiguous())
        ]
        covered = torch.ones(1, 2, dtype=torch.bool)
        loss = torch.zeros((), dtype=torch.float64)
        for a, b in itertools.product(range(2), range(2)):
            chains = Chains(2)
            chains.turn(0, lambda: ([None], None))
            chains.chain.masked[0] = covered
            truth = torch.tensor([a, b])
            logits = torch.stack(parameters[:2])
            # a third token stands for the mask
            padded = torch.nn.functional.pad(logits, (0, 1))
            loss = loss - pairs[a, b] * token_log_probs(padded, truth[:, None], 2).sum()
            chains.advance(0, covered, padded, 2)
            left = chains.chain.masked[0][0].nonzero().item()
            row = parameters[2][a] if left == 1 else parameters[3][b]
            target = truth[left][None, None]
            loss = loss - 2 * pairs[a, b] * token_log_probs(torch.nn.functional.pad(row, (0, 1))[None], target, 2).sum()
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        return max(float(grad.abs().max()) for grad in grads if grad is not None)

    assert gradient(0.0) < 1e-12
    assert gradient(0.5) > 1e-2


def test_chains_take_turns():
    """Each is led from its first stage to the last, and no more than K are under way."""
    chains, names = Chains(3, 5), iter("abcde" * 2)
    seen = []
    for step in range(30):
        chains.turn(step, lambda: ([next(names)], None))
        seen.append((chains.chain.batches[0], chains.stage))
        assert len(chains.chains) <= 3
    for period in (seen[:15], seen[15:]):
        for name in "abcde":
            assert [stage for one, stage in period if one == name] == [0, 1, 2]
        middle = period[3:-3]
        assert all(sorted(stage for _, stage in middle[n : n + 3]) == [0, 1, 2] for n in range(0, 9, 3))
        assert all(one[0] != other[0] for one, other in itertools.pairwise(middle))


# The trainer


@pytest.mark.parametrize("batches", [1, 2])
def test_a_batch_is_kept_and_shown_bit_by_bit(make, batches: int):
    trainer = make(progressive_batches=batches, save_steps=8)
    seen: list[tuple[Any, Any]] = []

    def watch(module: Any, given: Any, options: dict[str, Any]) -> None:
        seen.append((options["input_ids"].clone(), options["logits_to_keep"].clone()))

    trainer.model.register_forward_pre_hook(watch, with_kwargs=True)
    trainer.train()
    assert len(seen) == 8
    chains = (seen[:4], seen[4:]) if batches == 1 else (seen[::2], seen[1::2])
    for chain in chains:
        counts = [masked.sum(1) for _, masked in chain]
        for stage, (ids, masked) in enumerate(chain):
            assert torch.equal(counts[stage], left_masked(counts[0], stage, 4))
            assert (ids[masked] == MASK).all()
            if stage:
                before_ids, before = chain[stage - 1]
                assert (masked <= before).all()  # only what was masked is shown
                assert torch.equal(ids[~before], before_ids[~before])
                assert (ids[before & ~masked] != MASK).all()
    first, second = (chain[0][0][:, :20] for chain in chains)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("batches", [1, 2])
def test_a_run_resumes_exactly(make, tmp_path, batches: int):
    settings: dict[str, Any] = dict(lr_scheduler_type="constant", save_strategy="steps", progressive_batches=batches)
    settings |= dict(progressive_stages=4 // batches)
    whole = make(output_dir=str(tmp_path / "whole"), **settings)
    whole.train()
    make(output_dir=str(tmp_path / "half"), max_steps=4, **settings).train()
    resumed = make(output_dir=str(tmp_path / "half"), **settings)
    resumed.train(resume_from_checkpoint=True)
    for mine, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_accumulated_batches_have_chains_of_their_own(make):
    trainer = make(gradient_accumulation_steps=2, per_device_train_batch_size=2)
    trainer.train()
    assert sorted(trainer._chains.chain.masked) == [0, 1]


def test_evaluation_draws_its_masks(make, chats):
    settings = dict(eval_dataset=chats.select(range(4)), eval_strategy="no")
    random = make(masking="random", **settings)
    progressive = make(**settings)
    assert progressive.evaluate()["eval_nelbo"] == random.evaluate()["eval_nelbo"]


def test_windows_are_trained_in_a_share_of_the_rows(make, chats):
    """All rows known before their window and hidden behind it; evaluated with random masks."""
    settings = dict(save_strategy="no", eval_strategy="no", eval_dataset=chats.select(range(4)))
    random = make(masking="random", **settings).evaluate()
    trainer = make(masking="window", mask_window=2, window_share=1.0, max_steps=2, **settings)
    assert trainer.evaluate()["eval_nelbo"] == random["eval_nelbo"]
    seen: list[Any] = []
    hook = trainer.model.register_forward_pre_hook(
        lambda module, given, options: seen.append((options["input_ids"].clone(), options["logits_to_keep"].clone())),
        with_kwargs=True,
    )
    trainer.train()
    hook.remove()
    assert len(seen) == 2
    for ids, asked in seen:
        assert (asked.sum(1) <= 2).all()
        for row, masks in zip(ids, asked, strict=True):
            assert (row[masks.nonzero()[-1] :] == MASK).sum() >= 1


def test_word_problems_in_canvases(make_trainer):
    stream = IterableDataset.from_generator(rows, gen_kwargs={"seed": 1, "levels": (1, 2), "alike": 4})
    trainer = make_trainer(
        train_dataset=stream.select_columns(["prompt", "completion"]),
        masking="progressive",
        progressive_stages=2,
        max_steps=2,
        save_strategy="no",
        canvas_length=64,
        loss_cover="response",
        max_length=256,
    )
    assert trainer.train().training_loss > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masking": "gradual"}, "`masking='gradual'` is unknown"),
        ({"masking": "progressive", "max_steps": 8, "save_steps": 5}, "`save_steps=5` must be a multiple"),
        ({"masking": "progressive", "max_steps": 9, "save_steps": 8}, "`max_steps=9` must be a multiple"),
        (
            {"masking": "progressive", "progressive_batches": 2, "max_steps": 24, "save_steps": 16},
            "`max_steps=24` must be",
        ),
        ({"progressive_stages": 0}, "`progressive_stages=0`"),
        ({"progressive_batches": 0}, "`progressive_batches=0`"),
        ({"masking": "window", "mask_window": 0}, "`mask_window=0`"),
        ({"masking": "window", "window_share": 1.5}, "`window_share=1.5` must be a share"),
        ({"loss_weights": "equal"}, "`loss_weights='equal'`"),
        ({"loss_weights": "uniform", "objective": "bd3lm"}, "`loss_weights='uniform'` has no use"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str, tmp_path):
    with pytest.raises(ValueError, match=message):
        MDLMTrainingConfig(str(tmp_path), bf16=False, use_cpu=True, **settings)


def test_data_that_end(make_trainer):
    with pytest.raises(ValueError, match="takes a stream"):
        make_trainer(
            train_dataset=Dataset.from_list([turns(*row) for row in ROWS]),
            masking="progressive",
            max_steps=8,
            save_steps=8,
        )
