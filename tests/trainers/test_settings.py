"""Settings of Transformers' trainer that runs use, with both trainers: they work, and change only what they should."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from peft import LoraConfig

from trainers import MDLMTrainingConfig, R2FTConfig, R2FTTrainer

TRAINERS: dict[str, dict[str, Any]] = {
    "mdlm": {},
    "r2ft": dict(trainer=R2FTTrainer, config=R2FTConfig, canvas_length=24),
}


@pytest.fixture(params=TRAINERS)
def make(request: pytest.FixtureRequest, make_trainer: Callable[..., Any]) -> Callable[..., Any]:
    """`make_trainer`, for each of the trainers."""
    return lambda **settings: make_trainer(**(TRAINERS[request.param] | settings))


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("peft_config", [None, LoraConfig(r=2)], ids=["full", "adapter"])
def test_activation_checkpointing_changes_nothing(make, peft_config):
    plain, checkpointed = (losses(make(gradient_checkpointing=on, peft_config=peft_config)) for on in (False, True))
    assert checkpointed == pytest.approx(plain, rel=1e-5)


def test_bfloat16_on_a_cpu(make):
    trainer = make(bf16=True)
    assert losses(trainer) == pytest.approx(losses(make()), rel=0.1)
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


def test_a_model_in_bfloat16(make, make_llada):
    trainer = make(model=make_llada().to(torch.bfloat16))
    assert all(0 < abs(loss) < 20 for loss in losses(trainer))


def test_evaluation_on_start_and_the_best_model_at_the_end(make, chats):
    trainer = make(
        eval_dataset=chats,
        eval_on_start=True,
        max_steps=4,
        learning_rate=3.0,  # it gets worse, so that the best is not the last
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="best",
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        save_total_limit=1,
    )
    trainer.train()
    steps = [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert steps == [0, 1, 2, 3, 4]
    best = min(entry["eval_loss"] for entry in trainer.state.log_history if entry["step"] and "eval_loss" in entry)
    assert trainer.state.best_metric == best
    assert trainer.evaluate()["eval_loss"] == pytest.approx(best, rel=1e-6)


def test_a_second_count_of_tokens_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`include_num_input_tokens_seen='all'` does not apply"):
        MDLMTrainingConfig(output_dir=str(tmp_path), bf16=False, include_num_input_tokens_seen="all")


def test_tensorboard(make, tmp_path, chats, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    sampling = dict(eval_samples=1, eval_sample_kwargs={"steps": 2, "max_new_tokens": 4})
    trainer = make(
        report_to="tensorboard", eval_dataset=chats, eval_strategy="steps", eval_steps=1, max_steps=1, **sampling
    )
    trainer.train()
    assert list((tmp_path / "board").rglob("events.*"))


@pytest.mark.parametrize("config_class", [MDLMTrainingConfig, partial(R2FTConfig, canvas_length=8)])
def test_no_token_is_saved(config_class, tmp_path):
    """`training_args.bin` lies in every folder that is passed on; in memory copies keep the token."""
    config = config_class(output_dir=str(tmp_path), hub_token="hf_secret", use_cpu=True, bf16=False)
    torch.save(config, tmp_path / "training_args.bin")
    assert b"hf_secret" not in (tmp_path / "training_args.bin").read_bytes()
    assert torch.load(tmp_path / "training_args.bin", weights_only=False).hub_token is None
    assert config.hub_token == copy.copy(config).hub_token == copy.deepcopy(config).hub_token == "hf_secret"
    assert "hf_secret" not in config.to_json_string()
