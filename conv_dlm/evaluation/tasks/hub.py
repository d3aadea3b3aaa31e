"""Rows of a data set on the Hub."""

from typing import Any

from conv_dlm.utils.files import Row


def rows_of_hub(title: str, *names: str, **options: Any) -> list[Row]:
    """The rows of one split.

    Args:
        title (`str`): how people call the data set.
        names, options: of `datasets.load_dataset`.

    Raises:
        ValueError: `datasets` isn't installed, or the data set can't be had.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ValueError(f"{title} comes from the Hub by `pip install datasets`; or name a file, `--data`.") from error
    try:
        return [dict(row) for row in load_dataset(*names, **options)]
    except (OSError, ValueError) as error:
        raise ValueError(f"{title} can't be had from the Hub; name a file, `--data`. The reason: {error}") from error
