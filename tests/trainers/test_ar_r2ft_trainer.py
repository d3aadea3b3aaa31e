"""ARR2FTTrainer: its log-probabilities equal a naive loop's, and training rejects the repetition, not the response."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from trainers import ARR2FTTrainer, R2FTConfig
from trainers.r2ft_trainer import read_examples

EOS = 2


@pytest.fixture(scope="module")
def tiny_llama() -> LlamaForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=260,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=EOS,
                initializer_range=0.05,
            )
        )


@pytest.fixture
def make_ar(make_trainer: Callable[..., Any], tiny_llama: LlamaForCausalLM) -> Callable[..., ARR2FTTrainer]:
    def make(**settings: Any) -> ARR2FTTrainer:
        defaults = dict(model=copy.deepcopy(tiny_llama), canvas_length=60)
        return make_trainer(trainer=ARR2FTTrainer, config=R2FTConfig, **(defaults | settings))

    return make


def log_p_a_token(model: LlamaForCausalLM, ids: list[int], scored: list[int]) -> float:
    """Mean log p of the tokens at `scored`, each from a forward on what stands before it."""
    total = 0.0
    for position in scored:
        with torch.no_grad():
            log_p = model(input_ids=torch.tensor([ids[:position]])).logits[0, -1].double().log_softmax(-1)
        total += float(log_p[ids[position]])
    return total / len(scored)


def first_batch(trainer: ARR2FTTrainer) -> tuple[dict[str, torch.Tensor], Any]:
    batch = dict(next(iter(trainer.get_train_dataloader())))
    trainer.model.train()
    return batch, trainer._next_rows(batch["input_ids"])


def texts(examples: Any, drawn: Any, row: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """A row's clean text, where its response stands in it; its repetition behind clean text, where that stands."""
    clean = examples.ids_BL[row].tolist()
    span = drawn.rejects_BL[row].nonzero().flatten().tolist()
    repeated = clean[: span[0]] + drawn.rejected_BL[row, span[0] : span[-1] + 1].tolist()
    return clean, examples.response_BL[row].nonzero().flatten().tolist(), repeated, span


@pytest.mark.parametrize("corruption", ["repeat", "naive"])
def test_the_loss_equals_a_naive_loop(make_ar, tiny_llama, corruption):
    betas = dict(beta_w=0.7, beta_l=0.4, beta_a=0.3, gamma=0.2)
    trainer = make_ar(per_device_train_batch_size=2, corruption=corruption, **betas)
    batch, rows = first_batch(trainer)
    loss = trainer.batch_loss(trainer.model, batch, rows)

    examples = read_examples(batch, EOS)
    drawn = trainer.corrupt(examples, rows)
    expected, chosen, rejected = 0.0, 0.0, 0.0
    for row in range(2):
        clean, response, repeated, span = texts(examples, drawn, row)
        w, l = log_p_a_token(tiny_llama, clean, response), log_p_a_token(tiny_llama, repeated, span)  # noqa: E741
        margin = torch.tensor(0.7 * w - 0.4 * l - 0.2, dtype=torch.float64)
        expected += float(-torch.log(torch.sigmoid(margin))) - 0.3 * w
        chosen, rejected = chosen + w / 2, rejected + l / 2
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    for name, value in (("logps/chosen", chosen), ("logps/rejected", rejected)):
        total, count = loss.ratios[name]
        assert (total / count).item() == pytest.approx(value, rel=1e-5)


def test_only_scored_positions_are_projected_and_nothing_behind_them_is_read(make_ar):
    trainer = make_ar()
    batch, rows = first_batch(trainer)
    seen: dict[str, Any] = {}
    trainer.model.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    outputs = trainer.batch_loss(trainer.model, batch, rows).outputs
    drawn = trainer.corrupt(read_examples(batch, EOS), rows)
    scored = int(drawn.chosen_count_B.sum() + drawn.rejected_count_B.sum())
    assert outputs.logits.shape == (scored, 260)
    last = int((drawn.chooses_BL | drawn.rejects_BL).any(0).nonzero().max())
    assert seen["input_ids"].shape == (8, last)


def test_a_step_down_the_gradient_raises_the_response_over_the_repetition(make_ar):
    """As a naive loop sees them: the released code's signs would do the opposite."""
    trainer = make_ar(per_device_train_batch_size=1, beta_a=0.0)
    batch, rows = first_batch(trainer)
    examples = read_examples(batch, EOS)
    clean, response, repeated, span = texts(examples, trainer.corrupt(examples, rows), 0)

    def log_ps() -> tuple[float, float]:
        return log_p_a_token(trainer.model, clean, response), log_p_a_token(trainer.model, repeated, span)

    before = log_ps()
    trainer.batch_loss(trainer.model, batch, rows).total.backward()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter -= 1e-3 * parameter.grad
    after = log_ps()
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_training_rejects_the_repetition_and_keeps_the_response(make_ar, chats):
    trainer = make_ar(max_steps=40, learning_rate=3e-3, eval_dataset=chats)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_logps/rejected"] < before["eval_logps/rejected"] - 1
    assert after["eval_logps/chosen"] > before["eval_logps/chosen"]
    assert after["eval_rewards/accuracies"] > before["eval_rewards/accuracies"]
    entry = trainer.state.log_history[1]
    assert {"loss/preference", "loss/anchor", "rewards/margins", "mean_token_accuracy", "num_tokens"} <= set(entry)
    assert "masked_token_accuracy" not in entry


def test_accumulation_changes_nothing(make_ar):
    runs = [
        make_ar(per_device_train_batch_size=size, gradient_accumulation_steps=parts, optim="sgd", max_grad_norm=0.0)
        for size, parts in ((8, 1), (2, 4))
    ]
    for run in runs:
        run.train()
    for key in ("loss", "logps/rejected"):
        one, other = ([entry[key] for entry in run.state.log_history if key in entry] for run in runs)
        assert one == pytest.approx(other, rel=1e-4)
    for one, other in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_plain_text_begins_at_its_second_token(make_ar):
    """Nothing predicts the first one."""
    texts = Dataset.from_dict({"text": [f"{n} apples and {n + 1} pears are {2 * n + 1}." for n in range(8)]})
    trainer = make_ar(train_dataset=texts)
    batch, rows = first_batch(trainer)
    total, count = trainer.batch_loss(trainer.model, batch, rows).ratios["mean_token_accuracy"]
    assert count == sum(ids.index(EOS) for ids in batch["input_ids"].tolist())  # a row's tokens but the first
    assert 0 <= total <= count


def test_rules_for_both_sides_of_a_text_are_refused(make_ar):
    with pytest.raises(ValueError, match="'in_mask_repeat'` masks text on both sides"):
        make_ar(corruption="in_mask_repeat")
