"""Turn messages into the text that the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

Message = dict[str, str]


@dataclass(frozen=True)
class Prompter:
    """Formats messages with the tokenizer's chat template, if it has one.

    Args:
        tokenizer: with or without a chat template.
        system (`str`, *optional*): a system message.
        raw (`bool`, *optional*, defaults to `False`): whether to ignore the template and pass the text on unchanged.

    Raises:
        ValueError: there is a system message but no template.
    """

    tokenizer: PreTrainedTokenizerBase
    system: str | None = None
    raw: bool = False

    def __post_init__(self) -> None:
        if self.system is not None and not self.templated:
            raise ValueError(f"`--system` needs a chat template, but {self._reason}; put the text into the prompt.")

    @property
    def templated(self) -> bool:
        """Whether a template is used, which adds the special tokens itself."""
        return not self.raw and self.tokenizer.chat_template is not None

    def check_turns(self, count: int) -> None:
        """Raise ValueError if a conversation with `count` turns can't be formatted."""
        if count > 1 and not self.templated:
            raise ValueError(f"Several turns need a chat template, but {self._reason}; ask in one turn.")

    def __call__(self, messages: Sequence[Message]) -> str:
        """Format the messages as a prompt for an answer to the last one.

        Raises:
            ValueError: there are several messages but no template, or the template rejects the messages.
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
