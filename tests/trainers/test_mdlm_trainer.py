"""MDLMTrainer: what it trains on, what it optimises, what it reports, and that it resumes exactly."""

import copy
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from trainers import MDLMTrainer, MDLMTrainingConfig, noise
from trainers.losses import draw_masks, noise_levels

EOS, MASK = 2, 3


def parameters(trainer: MDLMTrainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


# Data


def test_a_response_ends_in_its_eos_and_the_prompt_is_not_maskable(make_trainer, tiny_tokenizer):
    row = make_trainer(max_steps=1).train_dataset[0]
    response = [label for label in row["labels"] if label != -100]
    assert tiny_tokenizer.decode(response) == "It is 2. #### 2<|end|>"  # without the template's last line break
    assert row["input_ids"][-1] == EOS
    prompt = tiny_tokenizer.decode(row["input_ids"][: len(row["labels"]) - len(response)])
    assert prompt == "<|start|>user\nWhat is 1 and 1?<|end|>\n<|start|>assistant\n"


def test_eos_padding_of_training_rows(make_trainer, chats):
    plain = make_trainer().train_dataset
    padded = make_trainer(max_extra_eos=6, eval_dataset=chats)
    extra = [len(b["labels"]) - len(a["labels"]) for a, b in zip(plain, padded.train_dataset, strict=True)]
    assert min(extra) >= 0
    assert max(extra) <= 6
    assert len(set(extra)) > 3
    longest = padded.train_dataset[extra.index(max(extra))]
    assert longest["labels"][-max(extra) :] == [EOS] * max(extra)
    assert [len(row["labels"]) for row in padded.eval_dataset] == [len(row["labels"]) for row in plain]


def test_a_share_of_the_rows_fills_the_canvas(make_trainer):
    half = make_trainer(canvas_length=40, canvas_share=0.5).train_dataset
    full = [sum(label != -100 for label in row["labels"]) == 40 for row in half]
    assert 3 <= sum(full) <= 13
    every = make_trainer(canvas_length=40).train_dataset
    assert {sum(label != -100 for label in row["labels"]) for row in every} == {40}


def test_what_max_length_cuts_gets_no_eos(make_trainer):
    rows = make_trainer(max_length=45, max_extra_eos=4).train_dataset
    assert all(len(row["input_ids"]) <= 45 for row in rows)
    assert any(row["labels"][-1] not in (EOS, -100) for row in rows)


def test_plain_text_is_maskable_throughout(make_trainer):
    rows = make_trainer(train_dataset=Dataset.from_dict({"text": ["one two", "three"] * 4})).train_dataset
    assert all(row["labels"] == row["input_ids"] and row["labels"][-1] == EOS for row in rows)


# Loss


@pytest.mark.parametrize("loss_weights", ["bound", "uniform"])
def test_loss_equals_a_naive_reference(make_trainer, tiny_llada, loss_weights):
    trainer = make_trainer(loss_weights=loss_weights)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(77))

    trainer._noise_clock = (-1, -1)
    rows = trainer._next_rows(batch["input_ids"])
    levels = noise_levels(rows.uniform(noise.LEVEL, 1).squeeze(1), rows.strata(), rows.total, 1e-3)
    draws = rows.uniform(noise.MASK, batch["input_ids"].shape[1])
    masked, weight = draw_masks(batch["labels"] != -100, levels, draws)
    if loss_weights == "uniform":
        weight = torch.ones_like(weight)
    total = 0.0
    for ids, attention, mask, row_weight in zip(
        batch["input_ids"], batch["attention_mask"], masked, weight.tolist(), strict=True
    ):
        noisy = torch.where(mask, MASK, ids)
        logits = tiny_llada(input_ids=noisy[None], attention_mask=attention[None]).logits[0].double()
        logits[:, MASK] = -torch.inf
        log_p = logits.log_softmax(-1)
        total -= row_weight * sum(log_p[i, ids[i]].item() for i in mask.nonzero().flatten().tolist())
    assert loss.item() == pytest.approx(total / 77, rel=1e-5)


@pytest.mark.parametrize("loss_norm", ["token", "sequence"])
def test_accumulation_changes_nothing(make_trainer, loss_norm):
    """8 rows at once, or 2 at a time: the same noise, losses and weights, though rows are padded otherwise."""
    trained = []
    for size, accumulation in ((8, 1), (2, 4)):
        trainer = make_trainer(
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            optim="sgd",
            max_grad_norm=0.0,
            loss_norm=loss_norm,
            canvas_length=40,
            canvas_share=0.5,
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        trained.append((losses, parameters(trainer)))
    assert trained[0][0] == pytest.approx(trained[1][0], rel=1e-4)
    for name, value in trained[0][1].items():
        torch.testing.assert_close(value, trained[1][1][name], rtol=1e-4, atol=1e-5)


# Training


@pytest.mark.parametrize("tied", [True, False])
def test_training_moves_every_parameter_and_the_loss_falls(make_trainer, make_llada, tied):
    trainer = make_trainer(model=make_llada(weight_tying=tied), max_steps=30)
    before = parameters(trainer)
    trainer.train()
    assert all(not torch.equal(before[name], value) for name, value in parameters(trainer).items())
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_lora_moves_adapters_alone(tmp_path, make_trainer, tiny_llada, tiny_tokenizer, chats):
    trainer = MDLMTrainer(
        model=copy.deepcopy(tiny_llada),
        args=make_trainer().args,
        train_dataset=chats,
        processing_class=tiny_tokenizer,
        peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    before = parameters(trainer)
    trainer.train()
    for name, value in parameters(trainer).items():
        assert torch.equal(before[name], value) is ("lora_B" not in name and "lora_A" not in name), name


def test_a_resumed_run_equals_an_uninterrupted_one(make_trainer, tmp_path: Path):
    whole = make_trainer(max_steps=4)
    whole.train()
    half = make_trainer(max_steps=4, save_strategy="steps", save_steps=2, output_dir=str(tmp_path / "half"))
    half.train()
    resumed = make_trainer(max_steps=4, output_dir=str(tmp_path / "resumed"))
    resumed.train(resume_from_checkpoint=str(tmp_path / "half" / "checkpoint-2"))
    for name, value in parameters(whole).items():
        assert torch.equal(value, parameters(resumed)[name]), name
    tokens = [[entry.get("num_tokens") for entry in run.state.log_history] for run in (whole, resumed)]
    assert tokens[0] == tokens[1]


def test_the_best_checkpoint_is_loaded_at_the_end(make_trainer, chats):
    trainer = make_trainer(
        eval_dataset=chats,
        learning_rate=10.0,  # every step makes it worse, so the first checkpoint is the best
        save_strategy="steps",
        eval_strategy="steps",
        save_steps=1,
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="nelbo",
        greater_is_better=False,
    )
    trainer.train()
    best = trainer.state.best_metric
    assert best < [entry["eval_nelbo"] for entry in trainer.state.log_history if "eval_nelbo" in entry][-1]
    assert trainer.evaluate()["eval_nelbo"] == pytest.approx(best, rel=1e-6)


def test_noise_differs_between_steps_and_between_parts_of_one(make_trainer):
    trainer = make_trainer()
    trainer.model.train()
    draws = []
    for step in (0, 0, 1):
        trainer.state.global_step = step
        draws.append(trainer._next_rows(torch.zeros(4, 1)).uniform(noise.MASK, 3))
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[1], draws[2])


# Evaluation and metrics


def test_evaluations_use_the_same_noise(make_trainer, chats):
    trainer = make_trainer(eval_dataset=chats)
    first, second = trainer.evaluate()["eval_nelbo"], trainer.evaluate()["eval_nelbo"]
    assert first == second
    assert make_trainer(eval_dataset=chats, seed=7).evaluate()["eval_nelbo"] == first
    trainer.train()
    assert trainer.evaluate()["eval_nelbo"] < first


def test_the_bound_weighs_tokens_and_not_batches(make_trainer, chats):
    """A model that gives every token the same probability has the bound log(V - 1) exactly, whatever the batches."""
    trainer = make_trainer(eval_dataset=chats, per_device_eval_batch_size=3)
    torch.nn.init.zeros_(trainer.model.lm_head.weight)
    nelbo = trainer.evaluate()["eval_nelbo"]
    assert nelbo == pytest.approx(torch.log(torch.tensor(259.0)).item(), rel=0.25)  # one draw of masks


def test_logged_metrics(make_trainer):
    trainer = make_trainer(max_steps=2)
    trainer.train()
    entry = trainer.state.log_history[1]
    assert 0 <= entry["masked_token_accuracy"] <= 1
    rows = trainer.train_dataset
    assert entry["num_tokens"] <= sum(len(row["input_ids"]) for row in rows)
    assert entry["num_tokens"] > 8 * min(len(row["input_ids"]) for row in rows) - 1


# Bad input


def test_a_loss_that_is_not_finite_ends_the_run(make_trainer):
    trainer = make_trainer()
    torch.nn.init.constant_(trainer.model.model.norm.weight, torch.nan)
    with pytest.raises(FloatingPointError, match="at step 1"):
        trainer.train()


@pytest.mark.parametrize(
    "settings",
    [
        {"packing": True},
        {"padding_free": True},
        {"loss_type": "dft"},
        {"label_smoothing_factor": 0.1},
        {"use_liger_kernel": True},
        {"min_noise": 0.0},
        {"max_extra_eos": -1},
        {"canvas_share": 1.5},
        {"canvas_length": 0},
    ],
)
def test_settings_that_do_not_apply_are_named(tmp_path, settings):
    name = next(iter(settings))
    with pytest.raises(ValueError, match=name):
        MDLMTrainingConfig(output_dir=str(tmp_path), bf16=False, **settings)


def test_a_model_without_mask_token_is_refused(make_trainer, make_llada, tiny_tokenizer, chats, tmp_path):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="mask_token_id"):
        MDLMTrainer(
            model=make_llada(mask_token_id=None),
            args=make_trainer().args,
            train_dataset=chats,
            processing_class=tokenizer,
        )
