"""Turn messages into the text that the model reads."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from conv_dlm.utils.text import well_formed

Message = dict[str, str]
# Stands inside of what would be read as a special token, but was written as text. Unicode keeps it for such ends.
BREAK = "\ufdd0"


def as_text(text: str, names: Collection[str], keep_breaks: bool = False) -> str:
    """`text` in which `names` of special tokens are text for `tokens_of`, and not tokens.

    Args:
        keep_breaks (`bool`, *optional*, defaults to `False`): for a text that this function was called with before.
    """
    text = well_formed(text)
    if not keep_breaks:
        text = text.replace(BREAK, "\ufffd")
    for name in sorted(names, key=len, reverse=True):
        if len(name) > 1:
            text = text.replace(name, name[0] + BREAK + name[1:])
    return text


def special_names(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """How the special tokens of a tokenizer are written."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return added | set(tokenizer.all_special_tokens)


def tokens_of(tokenizer: PreTrainedTokenizerBase, text: str, add_special_tokens: bool) -> list[int]:
    """The tokens of a text, after `as_text` or not."""
    first, *others = well_formed(text).split(BREAK)
    ids = list(tokenizer(first, add_special_tokens=add_special_tokens)["input_ids"])
    for part in others:
        ids += tokenizer(part, add_special_tokens=False)["input_ids"]
    return ids


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

    def __call__(self, messages: Sequence[Message], masks: bool = False) -> str:
        """Format the messages as a prompt for an answer to the last one; see `tokens_of`.

        Special tokens that are written in a message are text: a template's own alone begin and end turns.

        Args:
            messages (sequence of messages): the conversation.
            masks (`bool`, *optional*, defaults to `False`): whether the mask's name in a message is the mask, to be
                filled in.

        Raises:
            ValueError: there are several messages but no template, or the template rejects the messages.
        """
        if not self.templated:
            self.check_turns(len(messages))
            return messages[0]["content"]
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        names = special_names(self.tokenizer) - ({str(self.tokenizer.mask_token)} if masks else set())
        said = [{**message, "content": as_text(message["content"], names)} for message in [*system, *messages]]
        try:
            text = self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        except (TemplateError, TypeError, OverflowError) as error:
            raise ValueError(f"The chat template refuses the messages: {error}") from error
        return str(text)

    @property
    def _reason(self) -> str:
        return "`--raw` was given" if self.raw else "the tokenizer has none"
