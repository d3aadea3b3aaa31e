"""From what somebody says to the text that the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

Message = dict[str, str]


@dataclass(frozen=True)
class Prompter:
    """Puts messages into the tokenizer's chat template, if it has one and is to be used.

    Args:
        tokenizer: with or without chat template.
        system (`str`, *optional*): a system message.
        raw (`bool`, defaults to `False`): give the text as it is.

    Raises:
        ValueError: a system message, and no template.
    """

    tokenizer: PreTrainedTokenizerBase
    system: str | None = None
    raw: bool = False

    def __post_init__(self) -> None:
        if self.system is not None and not self.templated:
            raise ValueError(f"`--system` needs a chat template, but {self._reason}; put the text into the prompt.")

    @property
    def templated(self) -> bool:
        """Whether there is a template, which brings the special tokens with it."""
        return not self.raw and self.tokenizer.chat_template is not None

    def check_turns(self, count: int) -> None:
        """Raise ValueError for a conversation of so many turns that can't be put to the model."""
        if count > 1 and not self.templated:
            raise ValueError(f"Several turns need a chat template, but {self._reason}; ask in one turn.")

    def __call__(self, messages: Sequence[Message]) -> str:
        """The text that asks for an answer to the last message.

        Raises:
            ValueError: several messages without a template, or ones that the template refuses.
        """
        if not self.templated:
            self.check_turns(len(messages))
            return messages[0]["content"]
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        try:
            text = self.tokenizer.apply_chat_template(
                [*system, *messages], tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise ValueError(f"The chat template refuses the messages: {error}") from error
        return str(text)

    @property
    def _reason(self) -> str:
        return "`--raw` was given" if self.raw else "the tokenizer has none"
