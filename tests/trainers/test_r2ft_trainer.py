"""R2FTTrainer: what it reads from a batch, what it optimises and logs, and that nothing but its data changes a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from trainers import CORRUPTIONS, R2FTConfig, R2FTTrainer
from trainers.r2ft_trainer import read_examples

EOS = 2
LOGGED = {
    "loss/preference",
    "loss/anchor",
    "logps/chosen",
    "logps/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "masked_token_accuracy",
    "num_tokens",
    "tokens_per_second",
}


@pytest.fixture
def make_r2ft(make_trainer: Callable[..., Any]) -> Callable[..., R2FTTrainer]:
    def make(**settings: Any) -> R2FTTrainer:
        return make_trainer(trainer=R2FTTrainer, config=R2FTConfig, **(dict(canvas_length=60) | settings))

    return make


def logged(trainer: R2FTTrainer, key: str) -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def test_examples_are_read_from_a_batch():
    inputs = {
        "input_ids": torch.tensor([[9, 9, 5, 6, EOS, EOS, EOS], [9, 5, EOS, 9, 7, 8, 0], [4, 5, 6, 0, 0, 0, 0]]),
        "labels": torch.tensor(
            [[-100, -100, 5, 6, EOS, -100, -100], [-100, 5, EOS, -100, 7, 8, -100], [4, 5, 6, -100, -100, -100, -100]]
        ),
        "attention_mask": torch.tensor([[1] * 7, [1] * 6 + [0], [1] * 3 + [0] * 4]),
    }
    examples = read_examples(inputs, EOS)
    assert examples.start_B.tolist() == [2, 4, 0]
    assert examples.end_B.tolist() == [4, 6, 3]
    assert examples.length_B.tolist() == [7, 6, 3]
    assert [row.nonzero().flatten().tolist() for row in examples.response_BL] == [[2, 3, 4], [4, 5], [0, 1, 2]]


def test_training_raises_the_margin_and_logs_what_it_does(make_r2ft, chats):
    trainer = make_r2ft(max_steps=40, learning_rate=3e-3, eval_dataset=chats)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_rewards/margins"] > before["eval_rewards/margins"] + 1
    assert after["eval_rewards/accuracies"] > before["eval_rewards/accuracies"]
    assert after["eval_logps/rejected"] < before["eval_logps/rejected"]
    assert after["eval_loss"] < before["eval_loss"]
    entry = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert set(entry) >= LOGGED
    assert entry["loss"] == pytest.approx(entry["loss/preference"] + entry["loss/anchor"], rel=1e-5)
    assert {f"eval_{key}" for key in LOGGED if not key.startswith(("num", "tokens"))} <= set(after)


def test_accumulation_changes_nothing(make_r2ft):
    runs = [
        make_r2ft(per_device_train_batch_size=size, gradient_accumulation_steps=parts, optim="sgd", max_grad_norm=0.0)
        for size, parts in ((8, 1), (2, 4))
    ]
    for run in runs:
        run.train()
    for key in ("loss", "logps/rejected"):
        assert logged(runs[0], key) == pytest.approx(logged(runs[1], key), rel=1e-4)
    for one, other in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_corruptions_are_redrawn_in_every_step(make_r2ft):
    trainer = make_r2ft()
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    examples = read_examples(batch, EOS)
    drawn = [trainer.corrupt(examples, trainer._next_rows(batch["input_ids"])).masked_BL for _ in range(2)]
    assert not torch.equal(*drawn)


def test_evaluations_use_the_same_corruptions_whatever_the_batch(make_r2ft, chats):
    small, large = (make_r2ft(eval_dataset=chats, per_device_eval_batch_size=size) for size in (3, 16))
    first = small.evaluate()
    for other in (small.evaluate(), large.evaluate(), make_r2ft(eval_dataset=chats, seed=5).evaluate()):
        for key in ("eval_loss", "eval_logps/chosen", "eval_logps/rejected", "eval_rewards/margins"):
            assert other[key] == pytest.approx(first[key], rel=1e-5)


def test_a_resumed_run_equals_an_uninterrupted_one(make_r2ft, tmp_path: Path):
    whole = make_r2ft(max_steps=4)
    whole.train()
    make_r2ft(max_steps=4, save_strategy="steps", save_steps=2, output_dir=str(tmp_path / "half")).train()
    resumed = make_r2ft(max_steps=4, output_dir=str(tmp_path / "resumed"))
    resumed.train(resume_from_checkpoint=str(tmp_path / "half" / "checkpoint-2"))
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("corruption", [name for name, rule in CORRUPTIONS.items() if not rule.fills_canvas])
@pytest.mark.parametrize("denominator", ["mask_len", "seq_len"])
def test_rules_for_plain_text(make_r2ft, corruption, denominator):
    texts = Dataset.from_dict({"text": [f"{n} apples and {n + 1} pears are {2 * n + 1}." for n in range(8)]})
    trainer = make_r2ft(train_dataset=texts, corruption=corruption, denominator=denominator, canvas_length=None)
    trainer.train()
    assert all(value < 0 for value in logged(trainer, "logps/chosen"))


def test_rows_that_a_rule_cannot_take_are_named(make_r2ft):
    texts = Dataset.from_dict({"text": ["long enough for a hole", "short"]})
    with pytest.raises(ValueError, match="'in_mask_repeat'` can't take row 1 of the `train` data: its 6 tokens"):
        make_r2ft(train_dataset=texts, corruption="in_mask_repeat", canvas_length=None)
    pairs = Dataset.from_dict({"prompt": ["What?", "?"], "completion": ["That.", "That."]})
    with pytest.raises(ValueError, match="'naive'` can't take row 1 of the `train` data: its prompt has 1 token"):
        make_r2ft(train_dataset=pairs, corruption="naive")
