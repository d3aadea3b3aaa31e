"""The readable text of single tokens."""

from functools import cache

from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\ufffd"  # a tokenizer's text for bytes that are not a complete character


class Pieces:
    """The text of single tokens.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): decodes them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        # after a letter, since some tokenizers drop a leading space
        self._letter: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
        added = tokenizer.added_tokens_decoder.items()
        self._special = {index for index, token in added if token.special} | set(tokenizer.all_special_ids)
        self._text_of_one = cache(lambda index: self.text([index]))

    def __getitem__(self, index: int) -> str:
        return self._text_of_one(index)

    def text(self, ids: list[int]) -> str:
        """The text of consecutive tokens, including spaces."""
        before = self._tokenizer.decode(self._letter)
        return str(self._tokenizer.decode(self._letter + ids)[len(before) :])

    def special(self, index: int) -> str | None:
        """The name of a special token; `None` for text."""
        return str(self._tokenizer.convert_ids_to_tokens(index)) if index in self._special else None
