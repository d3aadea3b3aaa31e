"""The rows that the trainers take: refused where they have no response, and made to end in EOS."""

import random
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl.data_utils import get_dataset_column_names

CHATS = ("messages", "conversations")


def check_columns(dataset: Any, text_column: str, name: str) -> None:
    """Raise ValueError for data that are neither text nor chats nor prompts with completions, and for empty rows.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): of the latter, rows are not looked at.
        text_column (`str`): of plain text (`dataset_text_field`).
        name (`str`): what the messages call the data.
    """
    columns = get_dataset_column_names(dataset)
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
        values = enumerate(dataset[response])
        empty = next((index for index, value in values if not response_text(value).strip()), None)
        if empty is not None:
            raise ValueError(f"Row {empty} of the `{name}` data has an empty `{response}`: drop it, or give it one.")


def response_text(value: Any) -> str:
    """The string itself, or the text of the last message, which has to be the response."""
    if isinstance(value, str) or not value:
        return value or ""
    content = value[-1].get("content", value[-1].get("value"))
    if isinstance(content, list):  # parts of a message; the text ones count
        return "".join(part.get("text") or "" for part in content)
    return content or ""


def end_with_eos(
    row: dict[str, Any],
    index: int,
    *,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    max_extra: int,
    canvas: int | None,
    canvas_share: float,
    max_length: int | None,
    keep_end: bool,
    covered: bool,
    name: str,
) -> dict[str, Any]:
    """Cut the white space that chat templates write after a closing EOS, cut to `max_length`, pad with EOS if asked.

    The number of further EOS depends on `seed` and `index` alone; they are labels if `covered`. A response cut off by
    `max_length` gets none.

    Raises:
        ValueError: a row without response; `name` and `index` say which.
    """
    ids, labels, eos = row["input_ids"], row["labels"], tokenizer.eos_token_id
    if eos in labels:
        end = len(labels) - labels[::-1].index(eos)
        if not str(tokenizer.decode(ids[end:])).strip():
            ids, labels = ids[:end], labels[:end]
    if all(label in (-100, eos) for label in labels):
        raise ValueError(f"Row {index} of the `{name}` data has an empty response: drop it, or give it one.")
    if max_length is not None and len(ids) > max_length:
        kept = slice(-max_length, None) if keep_end else slice(max_length)
        ids, labels = ids[kept], labels[kept]
        if all(label == -100 for label in labels):
            raise ValueError(
                f"Row {index} of the `{name}` data: the prompt fills `max_length={max_length}` and leaves no room for "
                "the response; raise `max_length`, or shorten or drop the row."
            )
    if labels[-1] != eos:
        return {"input_ids": ids, "labels": labels}

    draw = random.Random(f"{seed} {index}")
    extra = draw.randint(0, max_extra)
    if canvas is not None and draw.random() < canvas_share:
        extra = max(0, canvas - sum(label != -100 for label in labels))
    if max_length is not None:
        extra = min(extra, max_length - len(ids))
    return {"input_ids": ids + [eos] * extra, "labels": labels + [eos if covered else -100] * extra}
