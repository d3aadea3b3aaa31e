"""train_grpo.py: its arguments, its recipes, and the whole script in one process and in two."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from conv_dlm import embedded_checkpoint
from tests.ranks import in_ranks, run_program
from tests.trainers.launching import ROOT, log_of, weights_of
from tests.trainers.sharded_on_cpu import train_sharded
from trainers import DiffusionGRPOTrainer, grpo
from trainers.grpo import make_parser
from trainers.rewards import REWARDS
from trainers.scripts import Arguments, build_trainer

RECIPES = sorted((ROOT / "configs" / "grpo").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_can_be_read(path: Path, tmp_path: Path) -> None:
    data, training, model, _ = make_parser().parse_args_and_config(["--config", str(path), "--bf16", "false"])
    assert set(data.reward_funcs) <= set(REWARDS)
    assert training.output_dir.startswith("outputs/") and training.rollout_kwargs["decode_type"]
    assert training.estimate() and model.model_name_or_path
    typo = tmp_path / "typo.yaml"
    typo.write_text(path.read_text() + "lernaing_rate: 1.0e-5\n")
    with pytest.raises(ValueError, match="lernaing_rate"):
        make_parser().parse_args_and_config(["--config", str(typo), "--bf16", "false"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "`reward_funcs` is empty"),
        (["--reward_funcs", "countdown", "--completion_column", "answer"], "`completion_column` has no use"),
        (["--reward_funcs", "countdown", "--prompt_template", "alpaca"], "`prompt_template` has no use"),
        (["--reward_funcs", "countdown", "--problem_drill", "0.1"], "`problem_drill` has no use"),
        (["--reward_funcs", "countdown", "--problem_plain", "true"], "`problem_plain` has no use"),
    ],
)
def test_arguments_without_a_use_are_named(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_parser().parse_args_and_config(["--output_dir", "out", "--bf16", "false", *words])


@pytest.fixture(scope="module")
def words(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The embedded recipe on the tiny model: two steps of two prompts, answered four times each."""
    folder = tmp_path_factory.mktemp("data")
    rows = [{"question": f"What is {n} and 2?", "answer": f"#### {n + 2}"} for n in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "config": ROOT / "configs" / "grpo" / "embedded.yaml",
        "model_name_or_path": tiny_checkpoint,
        "dataset_name": "json",
        "data_files": folder / "rows.jsonl",
        "prompt_column": "question",
        "held_out_rows": 2,
        "reward_weights": "1 1 1",
        "num_generations": 4,
        "max_completion_length": 16,
        "gradient_accumulation_steps": 1,
        "per_device_eval_batch_size": 1,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "bf16": False,
        "max_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "num_generations_eval": 1,
        "save_steps": 2,
        "disable_tqdm": True,
    }
    told = [word for name, value in options.items() for word in (f"--{name}", *str(value).split())]
    return [*told, "--reward_funcs", "tests.trainers.test_train_grpo.brevity", *sorted(REWARDS)[1:3]]


def brevity(completions: list[list[dict[str, str]]], **columns: object) -> list[float]:
    return [-float(len(text[0]["content"].encode())) for text in completions]


def test_two_processes_are_one_run(words: list[str], tmp_path: Path) -> None:
    """From a model on disk to a model on disk."""
    two, one = tmp_path / "two", tmp_path / "one"
    more = ["--output_dir", str(two), "--per_device_train_batch_size", "4"]
    in_ranks("cpu", 2, run_program, "train_grpo", [*words, *more])
    (log_two,) = [entry for entry in log_of(two / "checkpoint-2") if entry["step"] == 2 and "reward" in entry]
    assert [entry["step"] for entry in log_of(two / "checkpoint-2") if "eval_reward" in entry] == [2]

    more = ["--output_dir", str(one), "--per_device_train_batch_size", "8"]
    trainer = build_trainer(
        DiffusionGRPOTrainer,
        Arguments(*make_parser().parse_args_and_config([*words, *more])),
        reward_funcs=[brevity, *(REWARDS[name] for name in sorted(REWARDS)[1:3])],
    )
    trainer.train()
    (log_one,) = [entry for entry in trainer.state.log_history if entry["step"] == 2 and "reward" in entry]
    for name in ("reward", "rollout/forwards", "completions/mean_length", "loss", "views"):
        assert log_two[name] == pytest.approx(log_one[name], rel=1e-3, abs=1e-4), name
    trained, again = weights_of(two), weights_of(one / "checkpoint-2")
    for name, value in trained.items():
        assert (value - again[name]).abs().max() < 2e-3, name


def test_fsdp2_is_the_same_run(words: list[str], tmp_path: Path) -> None:
    """Two processes that shard the model, whose rows take different numbers of forwards; and one."""
    more = ["--eval_strategy", "no", "--optim", "sgd", "--learning_rate", "0.1"]
    two = [*words, *more, "--output_dir", str(tmp_path / "two"), "--per_device_train_batch_size", "4"]
    on_cpu = {"ACCELERATE_TORCH_DEVICE": "cpu"}
    in_ranks("fsdp2", 2, train_sharded, [*two, "--use_cpu", "false"], tmp_path / "told", "trainers.grpo", **on_cpu)
    assert (tmp_path / "told").read_text() == "FSDP"
    grpo.main([*words, *more, "--output_dir", str(tmp_path / "one"), "--per_device_train_batch_size", "8"])
    one, other = (log_of(tmp_path / name / "checkpoint-2") for name in ("one", "two"))
    for mine, its in zip(one, other, strict=True):
        for name in ("reward", "rollout/forwards", "completions/mean_length", "loss", "views", "grad_norm"):
            assert its.get(name) == pytest.approx(mine.get(name), rel=1e-3, abs=1e-4), name
    trained, again = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for name, value in trained.items():
        torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-5)


def test_values_of_the_recipe_fit_the_model_that_it_starts_from() -> None:
    """The checkpoint in the package, problems that SFT hasn't had, and a canvas that it has seen."""
    rl = yaml.safe_load((ROOT / "configs" / "grpo" / "embedded.yaml").read_text())
    sft = yaml.safe_load((ROOT / "configs" / "embedded" / "diffusion.yaml").read_text())
    assert ROOT / rl["model_name_or_path"] == Path(embedded_checkpoint())
    assert rl["problem_seed"] != sft["problem_seed"]
    assert sft["canvas_shortest"] <= rl["max_completion_length"] <= sft["canvas_length"]
