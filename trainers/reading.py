"""Rows of other people's data: what can mean only one thing is read as that, and the rest is refused, with its column.

A number is its digits, half a surrogate pair U+FFFD. Messages may be a JSON string, ShareGPT's `from` and `value`, and
have roles of other formats; a prompt and a completion may be of different kinds. The rest (blanks, lists) is refused.
"""

import json
import math
from collections.abc import Iterable
from typing import Any

from conv_dlm.utils.text import well_formed

CHATS = ("messages", "conversations")
# Roles of other formats; what is here neither as name nor as value is refused.
ROLES = {
    "human": "user", "prompter": "user", "question": "user", "gpt": "assistant", "bot": "assistant", "ai": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant", "chatbot": "assistant",
    "function_response": "tool", "observation": "tool", "ipython": "tool", "function": "tool",
    "user": "user", "assistant": "assistant", "system": "system", "developer": "developer", "tool": "tool",
}  # fmt: skip
SHOWN = 60  # characters of a value in a message


def read_row(row: dict[str, Any], text_column: str) -> dict[str, Any]:
    """The row with strings, or messages of roles and contents, in the columns that are trained on.

    Raises:
        `ValueError`: a value that can't be meant; the message names the column and shows the value.
    """
    row = dict(row)
    if "input_ids" in row:
        return row
    chat = next((name for name in CHATS if name in row), None)
    if chat is not None and "prompt" not in row:
        row["messages"] = _messages(row.pop(chat), chat)
        _ends_in_an_answer(row["messages"], chat)
        return row
    if "completion" not in row:
        if text_column in row:
            row[text_column] = _text(row[text_column], text_column)
        return row
    for name in ("prompt", "completion"):
        if name in row:
            row[name] = _messages(row[name], name) if _are_messages(row[name]) else _text(row[name], name)
    if isinstance(row.get("prompt"), list) != isinstance(row["completion"], list) and "prompt" in row:
        for name, role in (("prompt", "user"), ("completion", "assistant")):
            if isinstance(row[name], str):
                row[name] = [{"role": role, "content": row[name]}]
    if isinstance(row["completion"], list):
        _ends_in_an_answer(row["completion"], "completion")
    return row


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _text(value: Any, column: str) -> str:
    if isinstance(value, str):
        return well_formed(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise ValueError(f"`{column}` has no value: drop the row, or give it one")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return repr(value)
    raise ValueError(f"`{column}` is {look_at(value)}, of type {type(value).__name__}: make it a text")


def _messages(value: Any, column: str) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"`{column}` is {look_at(value)}, which is no list of messages") from None
    if value is None or value == []:
        raise ValueError(f"`{column}` is empty: drop the row, or give it one")
    if not _are_messages(value):
        raise ValueError(f"`{column}` is {look_at(value)}, which is no list of messages")
    return [_message(message, column, place) for place, message in enumerate(value)]


def _message(message: Any, column: str, place: int) -> dict[str, Any]:
    where = f"{column}[{place}]"
    if not isinstance(message, dict):
        raise ValueError(f"`{where}` is {look_at(message)}, and no message with a role and a content")
    others = {name: value for name, value in message.items() if value is not None and name not in KEYS}
    role = next((message[name] for name in ("role", "from") if message.get(name) is not None), None)
    known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise ValueError(
            f"`{where}` has the role {look_at(role)}: name it one of {', '.join(sorted(set(ROLES.values())))}"
        )
    content = next((message[name] for name in ("content", "value") if message.get(name) is not None), None)
    if content is None and others.get("tool_calls"):
        return {"role": known, "content": "", **others}
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if not parts or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"`{where}` is {look_at(content)}: only its texts can be trained on")
        content = "".join(str(part) for part in parts)
    return {"role": known, "content": _text(content, where), **others}


KEYS = ("role", "from", "content", "value")


def _ends_in_an_answer(messages: list[dict[str, Any]], column: str) -> None:
    if messages[-1]["role"] != "assistant":
        raise ValueError(
            f"`{column}` ends in a message of the {messages[-1]['role']}, {look_at(messages[-1]['content'])}: the last "
            "one has to be the assistant's"
        )


def check_special(row: dict[str, Any], special: Iterable[str], ends: Iterable[str]) -> None:
    """Raise ValueError for special tokens written out where they would be taken for what they are.

    Args:
        row (`dict`): as [`read_row`] gives it. In plain texts and prompts they are meant.
        special (iterable of `str`): tokens that no message may hold, since the chat template writes them itself.
        ends (iterable of `str`): tokens that end an answer, and stand at most at the end of a completion.
    """
    for column in ("messages", "prompt", "completion"):
        if not isinstance(row.get(column), list):
            continue
        for place, message in enumerate(row[column]):
            if (found := next((token for token in special if token in message["content"]), None)) is not None:
                raise ValueError(
                    f"`{column}[{place}]` holds {found!r}, a special token, which the model would take for one and not "
                    "for text: take it out of the data, or drop the row"
                )
    if isinstance(row.get("completion"), str):
        text = str(row["completion"]).rstrip()
        while stripped := next((text[: -len(end)] for end in ends if text.endswith(end)), None):
            text = stripped.rstrip()
        if (found := next((end for end in ends if end in text), None)) is not None:
            raise ValueError(
                f"`completion` holds {found!r}, which ends an answer, before its end: take it out of the data, split "
                "the row, or drop it"
            )


def look_at(value: Any) -> str:
    """The beginning of a value, for a message."""
    shown = repr(value)
    return shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "..."


def check_tokens(
    ids: Any, labels: Any, *, mask_token_id: int | None, vocabulary: int | None, context: int | None
) -> None:
    """Raise ValueError for a tokenized row that a denoiser can't be trained on.

    Args:
        ids, labels (lists of `int`): of the row; labels are -100 where there is no loss.
        mask_token_id (`int`, *optional*): of the model.
        vocabulary (`int`, *optional*): how many ids the model has.
        context (`int`, *optional*): how many positions it was made for.
    """
    if len(ids) != len(labels):
        raise ValueError(f"there are {len(ids)} `input_ids` and {len(labels)} `labels`")
    if not all(isinstance(value, int) for value in (*ids, *labels)):
        raise ValueError(f"`input_ids` or `labels` are no whole numbers: {look_at(list(ids))}")
    if any(label not in (-100, token) for token, label in zip(ids, labels, strict=True)):
        raise ValueError("`labels` differ from `input_ids` where they are not -100: a denoiser predicts the same place")
    wrong = next((one for one in ids if not 0 <= one < (math.inf if vocabulary is None else vocabulary)), None)
    if wrong is not None:
        raise ValueError(f"the id {wrong} is none of the {vocabulary} that the model has: tokenizer and model differ")
    if mask_token_id is not None and mask_token_id in ids:
        raise ValueError(
            f"the text holds the mask token (id {mask_token_id}, at token {list(ids).index(mask_token_id)}), which no "
            "text may have: take it out of the data, or drop the row"
        )
    if context is not None and len(ids) > context:
        raise ValueError(
            f"it has {len(ids)} tokens, and the model a context of {context}: set `max_length` to that, or drop it"
        )
