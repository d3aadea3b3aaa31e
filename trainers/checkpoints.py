"""Checkpoints are complete or ignored: a crash, a full disk or Ctrl-C during a save costs only that checkpoint.

Transformers writes directly into `checkpoint-N`, resumes from the highest N, and deletes older ones as soon as its main
process has finished. Here a marker stays in the folder while any process writes into it.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

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
        checkpoint = choose_checkpoint(resume_from_checkpoint, self.args.output_dir or ".")
        self.accelerator.wait_for_everyone()  # all have chosen
        if self.args.should_save:
            remove_unfinished(self.args.output_dir or ".")
        self.accelerator.wait_for_everyone()
        return super().train(checkpoint, *args, **kwargs)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
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
            rotate_checkpoints(
                output_dir=run_dir,
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

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
