"""Rows of `trainers.trajectories`, checked, as tokens that [`DistillTrainer`] trains on."""

from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from trainers.data import DataArguments
from trainers.rows import column_names, first_row

COLUMNS = ("prompt_ids", "completion_ids", "unmasked_at", "canvas_length")


@dataclass
class TrajectoryDataArguments(DataArguments):
    """Which trajectories are learnt; the files are `data_files`, of `dataset_name: json`.

    Further arguments are those of [`DataArguments`].

    Args:
        least_reward (`float`, *optional*):
            Leave out answers whose `reward` is less, or unknown.

    Raises:
        `ValueError`: an argument that is for text.
    """

    least_reward: float | None = field(default=None, metadata={"help": "Leave out answers with a lower reward."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prompt_column", "prompt_template"):
            if getattr(self, name) is not None:
                raise ValueError(f"`{name}` has no use: trajectories are tokens already. Leave it out.")

    def read(self, dataset: Any, text_column: str, name: str) -> Any:
        """The rows whose reward is high enough."""
        columns = column_names(dataset)
        if missing := [column for column in COLUMNS if column not in columns]:
            raise ValueError(
                f"The `{name}` data have no {', '.join(missing)}: write them by `python -m trainers.trajectories`."
            )
        if self.least_reward is not None:
            least = self.least_reward
            if "reward" not in columns:
                raise ValueError(f"`least_reward={least}`: the `{name}` data have no `reward`; leave it out.")
            dataset = dataset.filter(lambda row: row["reward"] is not None and row["reward"] >= least)
        first_row(dataset, name)
        return dataset


def tokenized(dataset: Any, name: str, eos_token_id: int, limits: dict[str, int | None]) -> Any:
    """Trajectories as `input_ids`, `labels` (-100 for the prompt) and `unmasked_at`: -1 where nothing was written.

    The canvas behind an answer is EOS, as decoding leaves it.

    Raises:
        `ValueError`: a row that can't be, named by its number.
    """

    def one(row: dict[str, Any], index: int) -> dict[str, list[int]]:
        prompt, answer, steps = row["prompt_ids"], row["completion_ids"], row["unmasked_at"]
        problem = None
        if not prompt or not answer:
            problem = "it has an empty prompt or answer"
        elif len(steps) != len(answer):
            problem = f"it has {len(answer)} `completion_ids` and {len(steps)} `unmasked_at`"
        elif row["canvas_length"] < len(answer):
            problem = f"its `canvas_length={row['canvas_length']}` is shorter than its answer, {len(answer)}"
        else:
            ids = [*prompt, *answer]
            vocabulary, mask, context = limits["vocabulary"], limits["mask_token_id"], limits["context"]
            if mask in ids:
                problem = f"it holds the mask token (id {mask}); its canvas was too short for its steps, say"
            elif vocabulary is not None and not all(0 <= token < vocabulary for token in ids):
                problem = f"it holds ids that the model's {vocabulary} tokens don't have: another model wrote it"
            elif context is not None and len(prompt) + row["canvas_length"] > context:
                problem = f"prompt and canvas have {len(prompt) + row['canvas_length']} tokens, the model {context}"
        if problem:
            raise ValueError(f"Row {index} of the `{name}` data: {problem}. Drop it, or write it again.")
        behind = row["canvas_length"] - len(answer)
        return {
            "input_ids": [*prompt, *answer, *[eos_token_id] * behind],
            "labels": [*[-100] * len(prompt), *answer, *[eos_token_id] * behind],
            "unmasked_at": [*[-1] * len(prompt), *steps, *[-1] * behind],
        }

    new = dataset.map(one, with_indices=True, remove_columns=column_names(dataset))
    if isinstance(dataset, Dataset):
        new.set_format(None)
    return new


@dataclass(frozen=True)
class TrajectoryCollator:
    """Rows padded at the right to the longest.

    Args:
        pad_token_id (`int`): pads the ids.
    """

    pad_token_id: int

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        length = max(len(row["input_ids"]) for row in rows)
        padding = {"input_ids": self.pad_token_id, "labels": -100, "unmasked_at": -1, "attention_mask": 0}
        for row in rows:
            row["attention_mask"] = [1] * len(row["input_ids"])
        return {
            name: torch.tensor([[*row[name], *[filler] * (length - len(row[name]))] for row in rows])
            for name, filler in padding.items()
        }
