"""DiffusionGRPOTrainer: rollouts, losses, adapters, checkpoints, and what it refuses."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from conv_dlm.models import SDARForCausalLM
from tests.trainers.launching import weights_of
from tests.trainers.test_families import tiny
from trainers import ESTIMATES, DiffusionGRPOConfig, DiffusionGRPOTrainer
from trainers.drafts import stage_advantages, stage_values

QUESTIONS = ["What is 1 and 2?", "And 12 and 30, what are they together?", "Say 5.", "Count to 3."]
NORMALIZED = {"log_prob_estimate": "trajectory", "multi_objective_aggregation": "normalize_then_sum"}
LLADA = {"decode_type": "llada", "steps": 4, "block_length": 8}


def letters(completions: list[Any], **columns: Any) -> list[float]:
    """The more letters the better, so that there is something to learn."""
    return [float(sum(one.isalpha() for one in text[0]["content"])) for text in completions]


@pytest.fixture
def make(tmp_path: Path, tiny_checkpoint: Path, tiny_tokenizer: Any) -> Callable[..., DiffusionGRPOTrainer]:
    """Builds a trainer of the tiny LLaDA; keywords go to its config, some to the trainer."""
    rows = [{"prompt": [{"role": "user", "content": question}], "answer": n} for n, question in enumerate(QUESTIONS)]

    def build(
        model: Any = None, reward_funcs: Any = letters, train_dataset: Any = None, peft_config: Any = None,
        **settings: Any,
    ) -> DiffusionGRPOTrainer:  # fmt: skip
        defaults: dict[str, Any] = dict(
            output_dir=str(tmp_path / "out"), per_device_train_batch_size=4, num_generations=4, max_steps=1,
            max_completion_length=16, rollout_kwargs=LLADA, learning_rate=1e-2, use_cpu=True, bf16=False,
            gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=1,
        )  # fmt: skip
        return DiffusionGRPOTrainer(
            model=str(tiny_checkpoint) if model is None else model,
            reward_funcs=reward_funcs,
            args=DiffusionGRPOConfig(**(defaults | settings)),
            train_dataset=Dataset.from_list(rows) if train_dataset is None else train_dataset,
            processing_class=copy.deepcopy(tiny_tokenizer),
            peft_config=peft_config,
        )

    return build


def logged(trainer: DiffusionGRPOTrainer) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


# Training


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_every_weight_learns(make: Any, estimate: str) -> None:
    trainer = make(log_prob_estimate=estimate)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    assert [name for name, weight in trainer.model.named_parameters() if torch.equal(weight, before[name])] == []
    (log,) = logged(trainer)
    views = {"one_step": 1, "coupled": 2, "trajectory": 4, "autoregressive": log["completions/mean_length"], "elbo": 2}
    assert log["views"] == pytest.approx(views[estimate], abs=0.5)
    assert log["rollout/forwards"] <= 4 and log["entropy"] > 0


def test_the_reward_rises(make: Any) -> None:
    trainer = make(max_steps=8, log_prob_estimate="coupled", per_device_train_batch_size=8, num_generations=8)
    trainer.train()
    rewards = [entry["reward"] for entry in logged(trainer)]
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 6
    trainer.save_model(trainer.args.output_dir)
    card = Path(trainer.args.output_dir, "README.md").read_text()
    assert "GRPO" in card and "`log_prob_estimate` | coupled" in card and "max_new_tokens=16" in card


def test_a_policy_that_does_not_move_is_no_other(make: Any) -> None:
    """Before, now and the reference are asked with the same masks, in each pass with its own."""
    trainer = make(
        log_prob_estimate="one_step", prompt_mask_share=0.5, learning_rate=0.0, num_iterations=2, beta=0.1, max_steps=4
    )
    seen = []
    estimate = trainer.estimate
    trainer.estimate = lambda some, draw: seen.append(draw(0, 4)) or estimate(some, draw)
    trainer.train()
    for entry in logged(trainer):
        assert entry["kl"] == pytest.approx(0, abs=1e-6)
        assert entry["clip_ratio/region_mean"] == 0
        assert entry["loss"] == pytest.approx(0, abs=1e-4)  # a ratio of 1, and advantages that cancel out
    # A rollout has four scorings beforehand, of the old policy and the reference in two passes each, and two losses.
    first, second, again, again_second, loss, second_loss = seen[:6]
    assert torch.equal(first, again) and torch.equal(second, again_second) and not torch.equal(first, second)
    assert torch.equal(first.sort(0).values, loss.sort(0).values)  # TRL shuffles the rows
    assert torch.equal(second.sort(0).values, second_loss.sort(0).values)
    assert not any(torch.equal(first, other) for other in seen[6:])


def test_adapters_learn_and_their_base_does_not(make: Any) -> None:
    trainer = make(peft_config=LoraConfig(r=2), log_prob_estimate="trajectory", trajectory_stride=2, beta=0.1)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved and all("lora_" in name for name in moved)
    assert logged(trainer)[0]["kl"] == pytest.approx(0, abs=1e-6)  # the reference is the model without them


def test_a_resumed_run_is_the_run(make: Any, tmp_path: Path) -> None:
    settings = dict(max_steps=4, num_iterations=2, save_strategy="steps", save_steps=2, temperature=0.8)
    make(output_dir=str(tmp_path / "whole"), **settings).train()
    resumed = make(output_dir=str(tmp_path / "again"), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    whole, again = (weights_of(tmp_path / name / "checkpoint-4") for name in ("whole", "again"))
    assert [name for name in whole if not torch.equal(whole[name], again[name])] == []


def test_block_by_block_models_learn_along_their_rollouts(make: Any, tmp_path: Path, tiny_tokenizer: Any) -> None:
    model = tiny(SDARForCausalLM)
    trainer = make(model=model, log_prob_estimate="trajectory", rollout_kwargs={"decode_type": "threshold"})
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trainer.train()
    assert [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])] == []
    with pytest.raises(ValueError, match="attention_pattern='block_causal'"):
        make(model=model, log_prob_estimate="coupled", rollout_kwargs={"decode_type": "threshold"})


# Rollouts


def test_rewards_get_columns_and_what_the_rollout_did(make: Any) -> None:
    calls: list[dict[str, Any]] = []

    def reward(prompts: Any, completions: Any, **columns: Any) -> list[float]:
        calls.append({"prompts": prompts, **columns})
        return letters(completions)

    make(reward_funcs=reward).train()
    (call,) = calls
    question = call["prompts"][0][0]["content"]
    assert call["answer"] == [QUESTIONS.index(question)] * 4
    assert all(count <= 4 for count in call["forwards"])
    assert all(len(steps) == 16 and max(steps) <= 4 for steps in call["unmasked_at"])


@pytest.mark.parametrize("cache", ["block", "window"])
def test_rollouts_with_an_exact_cache_are_those_without(make: Any, cache: str) -> None:
    plain = {"decode_type": "threshold", "threshold": 0.1}
    if cache == "window":
        settings, model = plain | {"block_length": 8, "cache_refresh_interval": 1}, None
    else:
        settings, model = plain, tiny(SDARForCausalLM)
    found = []
    for kept in (cache, None):
        kwargs = {name: value for name, value in settings.items() if kept or not name.startswith("cache")}
        trainer = make(
            model=model, log_prob_estimate="trajectory", rollout_kwargs=kwargs | {"cache_implementation": kept}
        )
        found.append(trainer.roll_out([[7, 8, 9], [7, 8, 9, 10, 11]]))
    assert torch.equal(found[0].canvas_BC, found[1].canvas_BC)
    assert torch.equal(found[0].unmasked_at_BC, found[1].unmasked_at_BC) and found[0].forwards == found[1].forwards
    assert min(found[0].forwards) > 1


def test_what_is_behind_the_end_is_no_completion(make: Any) -> None:
    """A completion has its end token, and the canvas goes on behind it."""
    trainer = make(log_prob_estimate="trajectory")
    kept: list[Any] = []
    compute, ends = trainer._compute_loss, trainer.eos_token_ids

    def look(model: Any, inputs: dict[str, Any]) -> Any:
        kept.append(inputs)
        return compute(model, inputs)

    trainer._compute_loss = look
    trainer.bare_model.generation_config.eos_token_id = trainer.eos_token_ids = [*ends, *range(60, 160)]
    trainer.train()
    (inputs,) = kept
    for ids, mask, canvas in zip(
        inputs["completion_ids"], inputs["completion_mask"], inputs["log_probs_of/canvas_BC"], strict=True
    ):
        length = int(mask.sum())
        assert ids[:length].tolist() == canvas[:length].tolist() and len(canvas) == 16
        is_end = torch.isin(ids[:length], torch.tensor(trainer.eos_token_ids))
        assert not is_end[:-1].any() and (is_end[-1] or length == 16)
    assert inputs["completion_mask"].sum() < 4 * 16


# Rewards of drafts


def test_tokens_get_their_stages_advantage(make: Any) -> None:
    """Drafts are judged as texts; tokens of one stage have one advantage, the same as by hand from the rewards."""
    judged: list[list[str]] = []

    def reward(completions: Any, **columns: Any) -> list[float]:
        judged.append([text[0]["content"] for text in completions])
        return letters(completions)

    trainer = make(
        reward_funcs=reward, log_prob_estimate="trajectory", intermediate_rewards=1, scale_rewards="none",
        rollout_kwargs={"decode_type": "llada", "steps": 4},
    )  # fmt: skip
    kept: list[Any] = []
    compute = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: kept.append(inputs) or compute(model, inputs)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    assert [name for name, weight in trainer.model.named_parameters() if torch.equal(weight, before[name])] == []
    final, half, again = judged
    assert final == again != half
    counted = [[sum(one.isalpha() for one in text) for text in texts] for texts in (half, final)]
    rewards = torch.tensor(counted, dtype=torch.float32).T
    (log,) = logged(trainer)
    assert [log["drafts/reward_1"], log["drafts/reward_2"]] == pytest.approx(rewards.mean(0).tolist())
    expected = stage_advantages(stage_values(rewards), 4, "none")
    (inputs,) = kept
    found = set()
    for advantage, mask, steps in zip(
        inputs["advantages"], inputs["completion_mask"].bool(), inputs["log_probs_of/unmasked_at_BC"], strict=True
    ):
        steps = steps[: len(mask)]
        early = steps * 2 // (int(steps[mask].max()) + 1) == 0
        pair = []
        for part in (mask & early, mask & ~early):
            values = advantage[part].unique()
            assert len(values) == 1
            pair.append(round(float(values), 4))
        found.add(tuple(pair))
    assert found == {tuple(round(value, 4) for value in row) for row in expected.tolist()}


async def later(completions: Any, **columns: Any) -> list[float]:
    return letters(completions)


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"log_prob_estimate": "two_step"}, "log_prob_estimate='two_step'"),
        ({"elbo_points": 0}, "elbo_points`=0"),
        ({"use_vllm": True}, "use_vllm=True"),
        ({"generation_kwargs": {"steps": 4}}, "in `rollout_kwargs`"),
        ({"rollout_kwargs": {"temperature": 0.5}}, "set `temperature` of the config"),
        ({"rollout_kwargs": {"max_new_tokens": 9}}, "set `max_completion_length`"),
        ({"rollout_kwargs": {"streamer": None}}, "which rollouts set themselves"),
        ({"rollout_kwargs": "{"}, "is no JSON"),
        ({"rollout_kwargs": {"stepz": 4}}, "stepz"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"save_strategy": "steps", "save_steps": 3, "num_iterations": 2}, "must be a multiple of 2"),
        ({"rollout_kwargs": {"decode_type": "wino"}, "log_prob_estimate": "trajectory"}, "takes tokens back"),
        ({"intermediate_rewards": 2, "log_prob_estimate": "coupled"}, "set `log_prob_estimate: trajectory`"),
        ({"intermediate_rewards": -1, "log_prob_estimate": "trajectory"}, "intermediate_rewards=-1"),
        ({"intermediate_rewards": 1, **NORMALIZED}, "their sum is normalized"),
        ({"intermediate_rewards": 1, "log_prob_estimate": "trajectory", "reward_funcs": later}, "plain functions"),
        ({"train_dataset": Dataset.from_dict({"text": ["One."]})}, "have no `prompt`"),
        ({"train_dataset": Dataset.from_dict({"prompt": ["One.", " "]})}, "Row 1 of the `train` data has an empty"),
    ],
)
def test_what_can_not_be_is_named(make: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)
