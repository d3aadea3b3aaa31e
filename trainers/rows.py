"""Training rows: rejected if they have no response, and made to end in EOS."""

import random
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from conv_dlm.answering.ends import end_ids
from trainers.mdlm_config import MDLMTrainingConfig
from trainers.reading import CHATS, read_row


def check_columns(dataset: Any, text_column: str, name: str) -> None:
    """Raise ValueError for data that are neither text nor chats nor prompts with completions, and for empty rows.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): the data; rows of a stream are not checked.
        text_column (`str`): the column of plain text (`dataset_text_field`).
        name (`str`): what the messages call the data.
    """
    first_row(dataset, name)
    columns = column_names(dataset)
    if "input_ids" in columns:
        return
    wanted = ("completion",) if "prompt" in columns else (*CHATS, text_column)
    response = next((column for column in wanted if column in columns), None)
    if response is None:
        raise ValueError(
            f"The `{name}` data have no response: their columns are {', '.join(columns)}. Rows need `prompt` and "
            f"`completion`, `messages`, or a `{text_column}`; rename the columns, or see `dataset_text_field`. The "
            "scripts map others with `prompt_column` and `completion_column`, or with `prompt_template: alpaca`."
        )
    if isinstance(dataset, Dataset):
        for index, row in enumerate(dataset):
            if row[response] in (None, "", []):
                raise ValueError(
                    f"Row {index} of the `{name}` data has an empty `{response}`: drop it, or give it one."
                )
            try:
                value = read_row(row, text_column)["messages" if response in CHATS else response]
            except ValueError as error:
                raise ValueError(f"Row {index} of the `{name}` data: {error}.") from error
            if not response_text(value).strip() and not has_calls(value):
                raise ValueError(
                    f"Row {index} of the `{name}` data has an empty `{response}`: drop it, or give it one."
                )


def column_names(dataset: Any) -> list[str]:
    """The columns of a dataset; of its first row if it is a stream that doesn't know them."""
    return list(next(iter(dataset)) if dataset.column_names is None else dataset.column_names)


def first_row(dataset: Any, name: str) -> Any:
    """The first row of a dataset. Raises ValueError if there is none."""
    row = next(iter(dataset), None)
    if row is None:
        raise ValueError(f"The `{name}` data have no rows.")
    return row


def has_calls(value: Any) -> bool:
    """Whether the response calls a tool, which needs no text."""
    return isinstance(value, list) and bool(value[-1].get("tool_calls"))


def response_text(value: Any) -> str:
    """The string itself, or the text of the last message, which must be the response."""
    if isinstance(value, str) or not value:
        return value or ""
    content = value[-1].get("content", value[-1].get("value"))
    if isinstance(content, list):  # parts of a message; the text ones count
        return "".join(part.get("text") or "" for part in content)
    return content or ""


@dataclass(frozen=True)
class RowEnds:
    """How a tokenized row ends: in EOS, where `max_length` leaves room for it, and in some more if asked.

    White space that chat templates write after a closing EOS is cut. A response that ends in another special token, as
    turns of LLaDA-8B-Instruct end in `<|eot_id|>`, gets an EOS behind it. The number of further EOS depends on `seed`
    and the row's index alone. A response that `max_length` cuts off gets none.

    Args:
        tokenizer: of the model.
        seed (`int`): of the draws.
        max_extra (`int`): the most further EOS that are drawn.
        canvases (`list[int]`): lengths of which one is drawn, to fill up `canvas_share` of the responses instead.
        canvas_share (`float`): share of the rows.
        canvas_rows (`int`): so many rows in a row are filled up alike.
        max_length (`int`, *optional*): of prompt and response.
        keep_end (`bool`): whether longer rows lose their beginning, not their end.
        covered (`bool`): whether the further EOS have labels.
        ends (set of `int`): the ids that end an answer.
    """

    tokenizer: PreTrainedTokenizerBase
    seed: int
    max_extra: int
    canvases: list[int]
    canvas_share: float
    canvas_rows: int
    max_length: int | None
    keep_end: bool
    covered: bool
    ends: frozenset[int] = frozenset()

    @classmethod
    def of(cls, args: MDLMTrainingConfig, tokenizer: PreTrainedTokenizerBase, pads: bool) -> "RowEnds":
        """As the config says; one EOS for rows that are not padded."""
        return cls(
            tokenizer,
            args.seed,
            args.max_extra_eos if pads else 0,
            args.canvases if pads else [],
            args.canvas_share,
            args.canvas_rows,
            args.max_length,
            args.truncation_mode == "keep_end",
            args.loss_cover == "response_and_eos",
            frozenset(end_ids(tokenizer)),
        )

    def __call__(self, ids: list[int], labels: list[int], index: int, name: str) -> tuple[list[int], list[int]]:
        """Ids and labels of row `index` of the `name` data, ended.

        Raises:
            ValueError: a row without response.
        """
        eos = self.tokenizer.eos_token_id
        if any(label in self.ends for label in labels):
            end = max(place for place, label in enumerate(labels, 1) if label in self.ends)
            if not str(self.tokenizer.decode(ids[end:])).strip():
                ids, labels = ids[:end], labels[:end]
        if all(label == -100 or label in self.ends for label in labels):
            raise ValueError(f"Row {index} of the `{name}` data has an empty response: drop it, or give it one.")
        if self.max_length is not None and len(ids) > self.max_length:
            kept = slice(-self.max_length, None) if self.keep_end else slice(self.max_length)
            ids, labels = ids[kept], labels[kept]
            if all(label == -100 for label in labels):
                raise ValueError(
                    f"Row {index} of the `{name}` data: the prompt fills `max_length={self.max_length}` and leaves no "
                    "room for the response; raise `max_length`, or shorten or drop the row."
                )
        ended = labels[-1] in self.ends or labels[-1] in self.tokenizer.all_special_ids
        if ended and labels[-1] != eos and (self.max_length is None or len(ids) < self.max_length):
            ids, labels = [*ids, eos], [*labels, eos]
        extra = self._extra(ids, labels, index) if ended else 0
        return ids + [eos] * extra, labels + [eos if self.covered else -100] * extra

    def _extra(self, ids: list[int], labels: list[int], index: int) -> int:
        extra = random.Random(f"{self.seed} {index}").randint(0, self.max_extra)
        draw = random.Random(f"canvas {self.seed} {index // self.canvas_rows}")
        if self.canvases and draw.random() < self.canvas_share:
            extra = max(0, draw.choice(self.canvases) - sum(label != -100 for label in labels))
        return extra if self.max_length is None else min(extra, self.max_length - len(ids))
