"""Saving that fails halfway, runs that are killed, and how they go on."""

import errno
import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerState

from trainers import MDLMTrainer, R2FTConfig, R2FTTrainer
from trainers.checkpoints import (
    MARKER,
    choose_checkpoint,
    is_whole,
    last_checkpoint,
    read_resume,
    remove_unfinished,
    rotate,
)

VARIANTS: dict[str, dict[str, Any]] = {
    "mdlm": {},
    "r2ft": dict(trainer=R2FTTrainer, config=R2FTConfig, canvas_length=40),
    "lora": dict(peft_config=LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])),
}


@pytest.fixture
def make_run(make_trainer: Callable[..., MDLMTrainer], tmp_path: Path) -> Callable[..., MDLMTrainer]:
    """A trainer that saves each second step; its log falls between the saves."""

    def make(name: str, **settings: Any) -> MDLMTrainer:
        steps = dict(max_steps=7, save_strategy="steps", save_steps=2, logging_steps=3, eval_strategy="no")
        return make_trainer(output_dir=str(tmp_path / name), **(steps | settings))

    return make


End = tuple[dict[str, torch.Tensor], list[Any]]  # weights, and the tokens that the log counts


def end_of(trainer: MDLMTrainer) -> End:
    counts = [(entry["step"], entry.get("num_tokens")) for entry in trainer.state.log_history]
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}, counts


@pytest.fixture(scope="module")
def ends() -> dict[str, End]:
    """How uninterrupted runs of the variants ended, as far as they have been run."""
    return {}


@pytest.fixture
def assert_same_end(make_run: Callable[..., MDLMTrainer], ends: dict[str, End]) -> Callable[..., None]:
    """A trainer has ended as an uninterrupted run of its variant."""

    def check(trainer: MDLMTrainer, variant: str = "mdlm") -> None:
        if variant not in ends:
            whole = make_run("whole", **VARIANTS[variant])
            whole.train()
            ends[variant] = end_of(whole)
        (expected, expected_counts), (weights, counts) = ends[variant], end_of(trainer)
        assert counts == expected_counts
        for name, value in expected.items():
            assert torch.equal(value, weights[name]), name

    return check


def fail_on_call(function: Callable[..., Any], number: int, error: BaseException) -> Callable[..., Any]:
    """`function`, which writes half and raises when it is called for that time."""
    calls = iter(range(1, 1000))

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            path = next((a for a in args if isinstance(a, str | Path)), None)
            if path is not None:
                Path(path).write_bytes(b"half")
            raise error
        return function(*args, **kwargs)

    return failing


DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# A save that fails


@pytest.mark.parametrize(
    ("writer", "number", "error"),
    # In the second save: arguments and tokenizer are written, then optimizer, scheduler, random state, the trainer's
    # state; at last the system writes what it has held back.
    [
        ((torch, "save"), 6, DISK_FULL),
        ((torch, "save"), 8, KeyboardInterrupt()),
        ((TrainerState, "save_to_json"), 2, DISK_FULL),
        ((os, "fsync"), 14, DISK_FULL),
    ],
    ids=["optimizer", "random state", "trainer state", "flush"],
)
def test_a_save_that_fails_leaves_the_last_checkpoint(make_run, assert_same_end, monkeypatch, writer, number, error):
    broken = make_run("broken", save_total_limit=1)
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(*writer, fail_on_call(getattr(*writer), number, error))
        broken.train()
    out = Path(broken.args.output_dir)
    assert (out / "checkpoint-4" / MARKER).is_file()
    assert last_checkpoint(out) == str(out / "checkpoint-2")  # the limit of 1 has not deleted it

    resumed = make_run("broken", save_total_limit=1)
    resumed.train(resume_from_checkpoint=True)
    assert_same_end(resumed)
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-7"]
    assert is_whole(out / "checkpoint-7")


def test_older_checkpoints_are_deleted_as_asked(make_run):
    trainer = make_run("out", save_total_limit=2)
    trainer.train()
    names = sorted(path.name for path in Path(trainer.args.output_dir).glob("checkpoint-*"))
    assert names == ["checkpoint-6", "checkpoint-7"]
    assert trainer.args.save_total_limit == 2


def test_nothing_unfinished_is_pushed(make_run, monkeypatch):
    trainer = make_run("out", max_steps=2)
    trainer.train()
    pushed = []
    monkeypatch.setattr(MDLMTrainer, "_push_from_checkpoint", lambda self, folder: pushed.append(is_whole(folder)))
    trainer.args.push_to_hub = True
    trainer._save_checkpoint(trainer.model, None)
    assert pushed == [True]
    assert trainer.args.push_to_hub


# What is resumed from


def write_checkpoints(folder: Path) -> None:
    for name, files in {
        "checkpoint-2": ["trainer_state.json"],
        "checkpoint-10": ["trainer_state.json"],
        "checkpoint-12": ["trainer_state.json", MARKER],
        "checkpoint-14": [],
        "checkpoint-20-copy": ["trainer_state.json"],
    }.items():
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_text("{}")


def test_the_last_whole_checkpoint_is_chosen(tmp_path):
    write_checkpoints(tmp_path)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    for resume in (True, "true", "True", str(tmp_path / "checkpoint-10")):
        assert choose_checkpoint(resume, tmp_path) == str(tmp_path / "checkpoint-10")
    for resume in (None, False, "false", "False"):
        assert choose_checkpoint(resume, tmp_path) is None
    assert read_resume("outputs/true") == "outputs/true"


def test_what_can_not_be_resumed_from_is_named(tmp_path, make_run):
    with pytest.raises(ValueError, match="holds no checkpoint"):
        make_run("nothing").train(resume_from_checkpoint=True)
    write_checkpoints(tmp_path)
    with pytest.raises(
        ValueError, match=r"checkpoint-12` is no checkpoint that was written to its end.*checkpoint-10\."
    ):
        choose_checkpoint(str(tmp_path / "checkpoint-12"), tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint-99` is no checkpoint"):
        choose_checkpoint(str(tmp_path / "checkpoint-99"), tmp_path)


def test_only_what_was_marked_is_deleted(tmp_path):
    write_checkpoints(tmp_path)
    (tmp_path / "model.safetensors").write_text("")
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-10",
        "checkpoint-14",
        "checkpoint-2",
        "checkpoint-20-copy",
        "model.safetensors",
    ]


# A run that is killed


class Killed(TrainerCallback):
    """The process ends without a word, as by the system, after a step or in the middle of a save."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(trainer: MDLMTrainer, step: int, in_save: bool) -> None:
    if in_save:  # by the random state of the checkpoint of that step
        save = trainer._save_rng_state

        def kill(folder: str) -> None:
            if folder.endswith(f"-{step}"):
                os.kill(os.getpid(), signal.SIGKILL)
            save(folder)

        trainer._save_rng_state = kill
    else:
        trainer.add_callback(Killed(step))
    trainer.train()


@pytest.mark.parametrize(
    ("variant", "in_save"), [("mdlm", False), ("mdlm", True), ("r2ft", False), ("lora", True)], ids=str
)
@pytest.mark.skipif(
    not hasattr(os, "fork") or torch.accelerator.is_available(),
    reason="kills a fork of the test, and autograd does not survive a fork where there are accelerators",
)
def test_a_killed_run_ends_as_an_uninterrupted_one(make_run, assert_same_end, variant, in_save):
    settings = VARIANTS[variant]
    step = random.choice([4, 6] if in_save else [3, 4, 5, 6])
    killed = make_run("killed", **settings)
    process = multiprocessing.get_context("fork").Process(target=train_until_killed, args=(killed, step, in_save))
    process.start()
    process.join(240)
    assert process.exitcode == -signal.SIGKILL

    resumed = make_run("killed", **settings)
    resumed.train(resume_from_checkpoint=True)
    assert_same_end(resumed, variant)


def test_the_count_of_tokens_is_in_the_checkpoint(make_run):
    trainer = make_run("out", max_steps=2, logging_steps=100)
    trainer.train()
    state = json.loads((Path(trainer.args.output_dir) / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["num_input_tokens_seen"] == trainer.state.num_input_tokens_seen > 0


# Runs that diverge, and runs that are complete


def break_at(trainer: Any, step: int) -> None:
    """The weights turn NaN in the given step."""

    class Break(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step - 1:
                next(trainer.model.parameters()).data.fill_(float("nan"))

    trainer.add_callback(Break())


@pytest.mark.parametrize("limit", [1, 2, None])
def test_a_diverged_run_keeps_its_good_checkpoints(make_run, limit):
    trainer = make_run("sick", max_steps=12, logging_steps=10, save_total_limit=limit)
    break_at(trainer, 5)
    out = Path(trainer.args.output_dir)
    with pytest.raises(FloatingPointError, match=f"first not finite at step 5.*good checkpoint is {out}/checkpoint-4"):
        trainer.train()
    assert not (out / "checkpoint-6").exists()
    tensors = load_file(out / "checkpoint-4" / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_a_run_that_diverges_in_its_last_step_saves_nothing(make_run):
    trainer = make_run("sick", max_steps=3, logging_steps=10, save_strategy="no", learning_rate=1e38, max_grad_norm=0)
    with pytest.raises(FloatingPointError, match="There is no checkpoint from before"):
        trainer.train()


@pytest.mark.parametrize(
    ("length", "longer"),
    [(dict(max_steps=4), dict(max_steps=6)), (dict(num_train_epochs=1), dict(num_train_epochs=1.5))],
    ids=["steps", "epochs"],
)
def test_a_complete_run_is_not_trained_on(make_run, length, longer):
    length, longer = ({"max_steps": -1, "lr_scheduler_type": "constant"} | its for its in (length, longer))
    make_run("done", **length).train()
    again = make_run("done", **length)
    out = Path(again.args.output_dir)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert again.train(resume_from_checkpoint=True).global_step == 4
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    saved = load_file(out / "checkpoint-4" / "model.safetensors")
    again.save_model(str(out / "final"))
    for name, tensor in load_file(out / "final" / "model.safetensors").items():
        assert torch.equal(tensor, saved[name])
    make_run("done", **longer).train(resume_from_checkpoint=True)  # goes on
    assert (out / "checkpoint-6").is_dir()


def test_what_cannot_be_saved_is_said_before_the_first_step(make_run):
    trainer = make_run("out")
    trainer.model.config.architectures = [object()]  # no JSON
    with pytest.raises(ValueError, match="LLaDAConfig can't be saved, so that no checkpoint could be"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_model_is_saved_whatever_fields_it_has(make_run):
    """As after training with gradient checkpointing off: `use_cache` in both configs."""
    trainer = make_run("out", max_steps=2)
    trainer.model.config.use_cache = trainer.model.generation_config.use_cache = True
    trainer.model.generation_config.num_beams = 4
    trainer.train()
    folder = Path(trainer.args.output_dir, "checkpoint-2")
    type(trainer.model).from_pretrained(folder)


def test_what_is_deleted_is_marked_first(tmp_path, monkeypatch):
    for step in (2, 4, 6):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
        os.utime(tmp_path / f"checkpoint-{step}", (step, step))
    seen = []
    monkeypatch.setattr("shutil.rmtree", lambda path: seen.append((path.name, (path / MARKER).exists())))
    rotate(tmp_path, 1, str(tmp_path / "checkpoint-2"))
    assert seen == [("checkpoint-4", True)]
