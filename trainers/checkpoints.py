"""Checkpoints are complete or ignored: a crash, a full disk or Ctrl-C during a save costs only that checkpoint.

Transformers writes directly into `checkpoint-N`, resumes from the highest N, and deletes older ones as soon as its main
process has finished. Here a marker stays in the folder while any process writes into it.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

MARKER = "checkpoint-is-incomplete.txt"  # Transformers' own name for it, where it saves on SIGTERM


def is_whole(checkpoint: str | Path) -> bool:
    """Whether a checkpoint is complete."""
    checkpoint = Path(checkpoint)
    return (checkpoint / TRAINER_STATE_NAME).is_file() and not (checkpoint / MARKER).exists()


def checkpoints(output_dir: str | Path) -> list[Path]:
    """The folders `checkpoint-N`, sorted by step, without a user's own such as `checkpoint-N-copy`."""
    names = (re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name) for path in Path(output_dir).glob("*/"))
    return [Path(output_dir, name[0]) for name in sorted(filter(None, names), key=lambda name: int(name[1]))]


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The complete checkpoint of the highest step; `None` if there is none."""
    whole = [str(checkpoint) for checkpoint in checkpoints(output_dir) if is_whole(checkpoint)]
    return whole[-1] if whole else None


def remove_unfinished(output_dir: str | Path) -> None:
    """Delete marked checkpoints, which are incomplete."""
    for checkpoint in checkpoints(output_dir):
        if (checkpoint / MARKER).exists():
            shutil.rmtree(checkpoint)


def rotate(output_dir: str | Path, limit: int | None, best: str | None) -> None:
    """Delete the oldest complete checkpoints, so that `limit` are left; never the best or the newest one.

    They are marked first: one whose deletion was interrupted is not taken for complete.
    """
    if not limit or limit < 1:
        return
    whole = sorted(filter(is_whole, checkpoints(output_dir)), key=lambda path: path.stat().st_mtime)
    kept = whole[-1:] + [path for path in whole[:-1] if best and path.resolve() == Path(best).resolve()]
    others = [path for path in whole if path not in kept]
    for path in others[: len(others) - max(0, limit - len(kept))]:
        (path / MARKER).write_text("This checkpoint is being deleted.\n")
        shutil.rmtree(path)


def finished_at(checkpoint: str | Path, max_steps: int, epochs: float) -> int | None:
    """The step of a checkpoint that is at the end of a run of `max_steps`, or without these of `epochs`; None if there
    are steps left, or unknown."""
    state = json.loads(Path(checkpoint, TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    step, epoch = int(state["global_step"]), float(state.get("epoch") or 0.0)
    is_over = step >= max_steps if max_steps > 0 else epoch >= epochs - 1e-6  # a fraction of steps that was added up
    return step if is_over and step > 0 else None


def is_finite(tensor: Tensor) -> bool:
    """Whether this process's part of a tensor has neither NaN nor infinities."""
    local: Any = getattr(tensor, "ds_tensor", tensor)
    local = local.to_local() if hasattr(local, "to_local") else local
    return not (local.is_floating_point() and local.device.type != "meta") or bool(local.isfinite().all())


def read_resume(resume: str | bool | None) -> str | bool | None:
    """Parse `resume_from_checkpoint`: in a YAML file or on a command line, "true" and "false" are strings."""
    if isinstance(resume, str) and resume.lower() in ("true", "false", ""):
        return resume.lower() == "true"
    return resume


def choose_checkpoint(resume: str | bool | None, output_dir: str | Path) -> str | None:
    """Choose the checkpoint to resume from, or `None`.

    Args:
        resume (`str` or `bool`, *optional*): its folder, or `True` for the last one in `output_dir`.
        output_dir (`str` or `Path`): the folder of the checkpoints.

    Raises:
        `ValueError`: the checkpoint is missing or incomplete.
    """
    resume = read_resume(resume)
    if not resume:
        return None
    last = last_checkpoint(output_dir)
    if resume is True:
        if last is None:
            raise ValueError(
                f"`resume_from_checkpoint=True`, but `output_dir={output_dir}` holds no checkpoint that was written to "
                "its end. To start anew, delete what is there, and leave the argument out."
            )
        return last
    if not is_whole(resume):
        raise ValueError(
            f"`resume_from_checkpoint={resume}` is no checkpoint that was written to its end. "
            + (f"The last one in `output_dir` is {last}." if last else "There is none in `output_dir`.")
        )
    return resume


@contextmanager
def replaced(settings: Any, **values: Any) -> Iterator[None]:
    """Temporarily set attributes of `settings`."""
    before = {name: getattr(settings, name) for name in values}
    vars(settings).update(values)
    try:
        yield
    finally:
        vars(settings).update(before)


def _flush(folder: Path) -> None:
    """Flush the folder to disk; some file systems report a full disk only now."""
    if os.name == "nt":  # Windows flushes only files opened for writing
        return
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class WholeCheckpoints(Trainer):
    """A trainer that marks a checkpoint while it is written, and ignores marked ones.

    It also loads checkpoints whose tensor names differ from the model's.
    """

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; see [`~transformers.Trainer.train`]. Incomplete checkpoints are deleted.

        Raises:
            `ValueError`: the checkpoint to resume from is missing or incomplete.
        """
        self._bad_step: Tensor | None = None
        checkpoint = choose_checkpoint(resume_from_checkpoint, self.args.output_dir or ".")
        self.accelerator.wait_for_everyone()  # all have chosen
        if self.args.should_save:
            remove_unfinished(self.args.output_dir or ".")
        self.accelerator.wait_for_everyone()
        plain = not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        if checkpoint and plain and (step := self._finished_at(checkpoint)) is not None:
            return self._end_again(checkpoint, step)
        if self.args.should_save and self.args.save_strategy != "no":
            self._check_saving()
        output = super().train(checkpoint, *args, **kwargs)
        self._check_finite()
        return output

    def _finished_at(self, checkpoint: str) -> int | None:
        return finished_at(checkpoint, self.args.max_steps, self.args.num_train_epochs)

    def _end_again(self, checkpoint: str, step: int) -> TrainOutput:
        """End a run that is complete already: load its weights, and take no further step."""
        self._load_from_checkpoint(checkpoint)
        self.state = TrainerState.load_from_json(os.path.join(checkpoint, TRAINER_STATE_NAME))
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint:
            self._load_best_model()
        self.accelerator.print(f"{checkpoint} is at the last step of the run, {step}: it is complete.")
        return TrainOutput(step, 0.0, {})

    def _check_saving(self) -> None:
        """Try to write what Transformers checks only when it saves, so that a problem is known before the first step.

        Raises:
            `ValueError`: config, generation config or tokenizer can't be saved.
            `OSError`: nothing can be written to `output_dir`.
        """
        model: Any = self.accelerator.unwrap_model(self.model)
        parts: list[Any] = [getattr(model, name, None) for name in ("config", "generation_config")]
        parts.append(self.processing_class)
        Path(self.args.output_dir or ".").mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.args.output_dir, prefix=".saving-") as folder:
            for part in parts:
                if hasattr(part, "save_pretrained"):
                    try:
                        part.save_pretrained(folder)
                    except (ValueError, TypeError) as error:
                        raise ValueError(
                            f"The {type(part).__name__} can't be saved, so that no checkpoint could be: {error}"
                        ) from error

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Train on one micro-batch; the first step whose loss is not finite is noted, without a wait for the device."""
        loss = super().training_step(*args, **kwargs)
        step = torch.full((), self.state.global_step + 1, device=loss.device)
        bad = torch.where(loss.detach().isfinite(), 0, step)
        self._bad_step = bad if self._bad_step is None else torch.where(self._bad_step > 0, self._bad_step, bad)
        return loss

    def _check_finite(self) -> None:
        """Raise FloatingPointError if a loss was not finite, or a weight or the optimizer's state is not.

        All ranks raise, wherever it was.
        """
        bad = 0 if self._bad_step is None else int(self._bad_step)
        sick = float(bad > 0 or not all(map(is_finite, self._state_tensors())))
        if float(self.accelerator.reduce(torch.tensor(sick, device=self.args.device), "sum")) > 0:
            raise FloatingPointError(self.diverged(f"The loss was first not finite at step {bad}" if bad else
                                     f"Weights are not finite at step {self.state.global_step}"))  # fmt: skip

    def diverged(self, what: str) -> str:
        """The message about a run that diverged: what is wrong, and which checkpoint is the last finite one."""
        last = last_checkpoint(self.args.output_dir or ".")
        good = f"The last good checkpoint is {last}" if last else "There is no checkpoint from before"
        return f"{what}. {good}; lower `learning_rate` or `max_grad_norm`, or train in float32."

    def _state_tensors(self) -> Iterator[Tensor]:
        model: Any = self.model
        yield from (parameter for parameter in model.parameters() if parameter.requires_grad)
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        if isinstance(inner, torch.optim.Optimizer) and not self.is_deepspeed_enabled:
            for state in inner.state.values():
                yield from (value for value in state.values() if isinstance(value, Tensor))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self._check_finite()  # before anything is written, or an older one deleted
        run_dir = self._get_output_dir(trial=trial)
        folder = Path(run_dir, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MARKER).write_text("This checkpoint is being written; if nobody writes it any more, delete it.\n")
        self.accelerator.wait_for_everyone()
        # Nothing is pushed, and no older checkpoint is deleted, before this one is complete.
        with replaced(self.args, push_to_hub=False, save_total_limit=None):
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            _flush(folder)
            (folder / MARKER).unlink(missing_ok=True)
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))
        if self.args.should_save:
            rotate(run_dir, self.args.save_total_limit, self.state.best_model_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Load weights to resume with. Trainer's own code can't load checkpoints with other tensor names than the
        model.

        Adapters, FSDP and DeepSpeed use the model's tensor names, so Trainer loads those.
        """
        model = self.model if model is None else model
        if isinstance(model, PreTrainedModel) and not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            model.load_state_dict(type(model).from_pretrained(resume_from_checkpoint, dtype="auto").state_dict())
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        """Load the best checkpoint in the same way."""
        if isinstance(self.model, PreTrainedModel) and not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()
