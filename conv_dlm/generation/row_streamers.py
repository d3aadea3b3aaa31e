"""Streaming of a batch: a streamer for each row."""

from collections.abc import Sequence

from torch import Tensor
from transformers.generation.streamers import BaseStreamer


class RowStreamers(BaseStreamer):
    """The streamer of a batch, made of one for each row.

    A row's streamer gets what it would get if its row were generated alone: the prompt (here with the padding that the
    batch gave it), then unmasked tokens as far as there is no gap before them, drafts if it has `put_draft`, `end()`.
    One whose `put` returns true has had enough: its row ends there, and the others go on.

    Args:
        rows (sequence of `BaseStreamer` or `None`):
            In the order of the batch, after `num_return_sequences`; `None` for a row that nobody watches.

    Raises:
        ValueError: by `generate`, if the batch has another number of rows.

    Example:

        ```python
        >>> model.generate(**batch, streamer=RowStreamers([TextStreamer(tokenizer), None]))
        ```
    """

    def __init__(self, rows: Sequence[BaseStreamer | None]) -> None:
        self.rows = list(rows)

    def put(self, value: Tensor) -> None:
        """Hand out the prompts [B, P]; the loop gives the rows what follows one by one."""
        if len(value) != len(self.rows):
            raise ValueError(
                f"`streamer` follows {len(self.rows)} rows, but the batch has {len(value)}; give `RowStreamers` one "
                "for each, or None."
            )
        for streamer, row in zip(self.rows, value, strict=True):
            if streamer is not None:
                streamer.put(row[None])

    def end(self) -> None:
        """Tell all rows that the batch is finished."""
        for streamer in self.rows:
            if streamer is not None:
                streamer.end()
