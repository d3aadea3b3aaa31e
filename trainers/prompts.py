"""Data of the trainers whose completions the model writes: prompts, and columns for the rewards."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from datasets import Dataset, IterableDataset
from trl import is_conversational

from trainers.data import DataArguments
from trainers.rows import column_names, first_row


@dataclass
class PromptArguments(DataArguments):
    """Which prompts.

    Rows hold a `prompt`, a string or messages, and the columns that the rewards read; a `completion` is not looked at.
    Further arguments are those of [`DataArguments`].

    Args:
        prompt_column (`str`, *optional*):
            Column of strings that become the user's turn of a chat.

    Raises:
        `ValueError`: an argument that is for training on completions.
    """

    problem_columns: ClassVar[list[str]] = ["prompt", "answer", "level"]

    def __post_init__(self) -> None:
        for name in ("completion_column", "prompt_template", "problem_drill", "problem_plain"):
            if getattr(self, name) not in (None, False, 0):
                raise ValueError(f"`{name}` has no use: completions are written by the model. Leave it out.")
        prompt_column, self.prompt_column = self.prompt_column, None
        super().__post_init__()
        self.prompt_column = prompt_column

    def read(self, dataset: Any, text_column: str, name: str) -> Any:
        """The rows with a `prompt`, all other columns as they are."""
        if self.prompt_column is not None:
            column = self.prompt_column
            if column not in column_names(dataset):
                raise ValueError(f"The data has no column `{column}`; it has {', '.join(column_names(dataset))}.")
            dataset = dataset.map(lambda row: {"prompt": [{"role": "user", "content": row[column]}]})
        check_prompts(dataset, name)
        return dataset


@dataclass
class RewardArguments(PromptArguments):
    """Which prompts, and what judges the completions.

    Further arguments are those of [`PromptArguments`].

    Args:
        reward_funcs (`list[str]`):
            Rewards of [`trainers.rewards`] by name, or dotted paths of functions, `my_module.my_reward`. Their weights
            are `reward_weights`.

    Raises:
        `ValueError`: no reward.
    """

    reward_funcs: list[str] = field(
        default_factory=list, metadata={"help": "Rewards by name, or paths of functions such as my_module.my_reward."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reward_funcs:
            raise ValueError("`reward_funcs` is empty: name what judges the completions, `word_problem_answer` say.")


def check_prompts(datasets: Any, name: str) -> None:
    """Raise ValueError for data without prompts, and for empty ones; rows of a stream are not checked.

    Args:
        datasets (a dataset, or a `dict` of them): the data.
        name (`str`): what the messages call the data.
    """
    if isinstance(datasets, dict):
        for key, dataset in datasets.items():
            check_prompts(dataset, key)
        return
    if not isinstance(datasets, Dataset | IterableDataset):
        raise ValueError(f"The `{name}` data are a {type(datasets).__name__}: pass a Dataset or an IterableDataset.")
    first_row(datasets, name)
    columns = column_names(datasets)
    if "prompt" not in columns:
        raise ValueError(
            f"The `{name}` data have no `prompt`: their columns are {', '.join(columns)}. Rename one; the scripts map "
            "another with `prompt_column`."
        )
    if isinstance(datasets, Dataset):
        for index, prompt in enumerate(datasets["prompt"]):
            if not prompt or (isinstance(prompt, str) and not prompt.strip()):
                raise ValueError(f"Row {index} of the `{name}` data has an empty `prompt`: drop it, or give it one.")


def is_chat(dataset: Any) -> bool:
    """Whether prompts are messages."""
    return bool(is_conversational({"prompt": first_row(dataset, "train")["prompt"]}))
