"""Rows of text, prompts with completions or chats, to the `input_ids` and `labels` that the trainers train on.

TRL leaves rows alone that have both columns, so that its own preparation, which is private, has nothing to do. The
formats are TRL's: `text`; `prompt` and `completion`, strings or messages; `messages`; the same already tokenized. Maps
work row by row, on datasets in memory and on streams alike.
"""

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging
from trl import get_training_chat_template, is_conversational, is_conversational_from_value, maybe_convert_to_chatml
from trl.chat_template_utils import has_generation_markers, is_chat_template_stop_token_trained

from trainers.mdlm_config import MDLMTrainingConfig
from trainers.reading import check_special, check_tokens, read_row
from trainers.rows import RowEnds, check_columns, column_names, first_row
from trainers.running import cannot_be_loaded

logger = logging.get_logger(__name__)
Check = Callable[[list[int], list[int], int, str], None]  # ids, labels, row and data set: raises ValueError


def load_tokenizer(model: Any, args: MDLMTrainingConfig) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model, which is given by its name or loaded."""
    options = args.model_init_kwargs if isinstance(args.model_init_kwargs, dict) else {}
    name, revision = (model, options.get("revision")) if isinstance(model, str) else (model.config._name_or_path, None)
    return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=args.trust_remote_code)


def as_trained(tokenizer: PreTrainedTokenizerBase, args: MDLMTrainingConfig) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer with the `eos_token` and the `chat_template_path` of the config.

    TRL does the same to the tokenizer itself, and to the model where tokens are new, after the data have been read.

    Raises:
        ValueError: no EOS token.
    """
    tokenizer = copy.deepcopy(tokenizer)
    if args.eos_token is not None:
        if args.eos_token not in tokenizer.get_vocab():
            raise ValueError(f"`eos_token={args.eos_token}` is no token of the tokenizer's; name one, or leave it out.")
        tokenizer.eos_token = args.eos_token
    template = args.chat_template_path
    if template is not None and os.path.isfile(template) and template.endswith((".jinja", ".j2")):
        tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    elif template is not None:
        if template.endswith((".jinja", ".j2")):
            raise ValueError(f"`chat_template_path={template}`: there is no such file.")
        try:
            source = AutoTokenizer.from_pretrained(template)
        except (OSError, ValueError) as error:
            raise cannot_be_loaded(f"The tokenizer of `chat_template_path={template}`", error) from error
        known = tokenizer.get_vocab()
        tokenizer.chat_template = source.get_chat_template()
        tokenizer.add_tokens([token for token in source.added_tokens_decoder.values() if token.content not in known])
        tokenizer.eos_token = source.eos_token
    if tokenizer.eos_token_id is None:
        raise ValueError("The tokenizer has no EOS token, so responses could not end: set `tokenizer.eos_token`.")
    return tokenizer


@dataclass(frozen=True)
class Tokenizing:
    """One row to `input_ids` and `labels`, which are -100 where a token is no response.

    Args:
        tokenizer: of the model.
        text_column (`str`): of plain texts.
        completion_only (`bool`): whether prompts get no labels.
        assistant_only (`bool`): whether only what the assistant says gets labels; needs a chat template that marks it.
        chat_template (`str`, *optional*): in place of the tokenizer's.
        formatting_func (`Callable`, *optional*): makes a text of a row.
        ends ([`RowEnds`]): how responses end.
        check (`Callable`, *optional*): raises ValueError for a row that can't be trained on.
        name (`str`): what messages call the data.
        limits (`dict`): what the model can take; see [`check_tokens`].
    """

    tokenizer: PreTrainedTokenizerBase
    text_column: str
    completion_only: bool
    assistant_only: bool
    chat_template: str | None
    formatting_func: Callable[[dict[str, Any]], str] | None
    ends: RowEnds
    check: Check | None
    name: str
    limits: dict[str, int | None]
    special: tuple[str, ...] = field(init=False)
    end_texts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        added = (token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special)
        object.__setattr__(self, "special", tuple(sorted({*added, *self.tokenizer.all_special_tokens})))
        texts: Any = self.tokenizer.convert_ids_to_tokens(sorted(self.ends.ends))
        object.__setattr__(self, "end_texts", tuple(texts))

    def __call__(self, row: dict[str, Any], index: int) -> dict[str, list[int]]:
        try:
            if "input_ids" not in row:
                if self.formatting_func is None:
                    row = read_row(row, self.text_column)
                    check_special(row, self.special, self.end_texts)
                row = self._tokenized(self._with_text(dict(row)))
            ids = list(row["input_ids"])
            labels = list(row["labels"]) if "labels" in row else self._labels(row, ids)
        except (TypeError, AttributeError, KeyError, IndexError, TemplateError) as error:
            raise ValueError(f"Row {index} of the `{self.name}` data can't be read: {error}.") from error
        except ValueError as error:
            raise ValueError(f"Row {index} of the `{self.name}` data: {str(error).rstrip('.')}.") from error
        if len(ids) != len(labels):
            raise ValueError(f"Row {index} of the `{self.name}` data has {len(ids)} ids and {len(labels)} labels.")
        ids, labels = self.ends(ids, labels, index, self.name)
        try:
            check_tokens(ids, labels, **self.limits)
        except ValueError as error:
            raise ValueError(f"Row {index} of the `{self.name}` data: {error}.") from error
        if self.check is not None:
            self.check(ids, labels, index, self.name)
        return {"input_ids": ids, "labels": labels}

    def _with_text(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as text or as a chat of roles and contents; plain text ends in EOS."""
        if self.formatting_func is not None:
            row = {self.text_column: self.formatting_func(row)}
        if is_conversational_from_value(row):
            row = maybe_convert_to_chatml(copy.deepcopy(row))  # which changes its messages, and a stream may keep them
        if not is_conversational(row):
            column, eos = "completion" if "completion" in row else self.text_column, self.tokenizer.eos_token
            text = row[column] or ""  # an empty one is refused later on, by its row
            row[column] = text if text.endswith(eos) else text + eos
        return row

    def _tokenized(self, row: dict[str, Any]) -> dict[str, Any]:
        """Ids of the row, and masks of what is completion and of what the assistant says, where they are told apart."""
        if not is_conversational(row):
            if "prompt" not in row:
                return {"input_ids": self.tokenizer(text=row[self.text_column])["input_ids"]}
            prompt, whole = (
                self.tokenizer(text=text)["input_ids"] for text in (row["prompt"], row["prompt"] + row["completion"])
            )
            return {"input_ids": whole, "completion_mask": self._behind(prompt, whole)}
        if "prompt" not in row:
            return self._chat(row, row["messages"], return_assistant_tokens_mask=self.assistant_only)
        prompt = self._chat(row, row["prompt"], add_generation_prompt=True)["input_ids"]
        messages = row["prompt"] + row["completion"]
        output = self._chat(row, messages, return_assistant_tokens_mask=self.assistant_only)
        return output | {"completion_mask": self._behind(prompt, output["input_ids"])}

    def _chat(self, row: dict[str, Any], messages: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        tools = row.get("tools")
        settings = {
            "chat_template": self.chat_template,
            "tools": json.loads(tools) if isinstance(tools, str) else tools,
            **(row.get("chat_template_kwargs") or {}),
        }
        output: Any = self.tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, **settings, **options
        )
        kept = {name: output[name] for name in ("input_ids", "assistant_masks") if name in output}
        if 1 not in kept.get("assistant_masks", [1]):
            raise ValueError(
                f"A chat of the `{self.name}` data has no token that the assistant says, as far as the chat template "
                "marks it by {% generation %}, and `assistant_only_loss=True` trains on nothing else."
            )
        return kept

    def _behind(self, prompt: list[int], whole: list[int]) -> list[int]:
        """1 where the tokens of prompt and completion differ from those of the prompt, up to their end."""
        pairs = enumerate(zip(prompt, whole, strict=False))
        start = next((place for place, (one, other) in pairs if one != other), min(len(prompt), len(whole)))
        if start < len(prompt):
            logger.warning_once(
                f"Prompts of the `{self.name}` data end in {self.tokenizer.decode(prompt[start:])!r}, and with their "
                "completions they go on differently from there: the chat template writes a prompt alone in another "
                "way, or tokens join at its end. The model would be asked otherwise than it is trained. End prompts "
                "where a token ends, or use a template that writes both alike."
            )
        return [0] * start + [1] * (len(whole) - start)

    def _labels(self, row: dict[str, Any], ids: list[int]) -> list[int]:
        masks = [row["completion_mask"]] if self.completion_only and "completion_mask" in row else []
        masks += [row["assistant_masks"]] if "assistant_masks" in row else []
        return [token if all(bits) else -100 for token, *bits in zip(ids, *masks, strict=True)]


def tokenize(
    dataset: Any,
    tokenizer: PreTrainedTokenizerBase,
    args: MDLMTrainingConfig,
    *,
    name: str,
    pads: bool,
    formatting_func: Callable[[dict[str, Any]], str] | None = None,
    check: Check | None = None,
    limits: dict[str, int | None] | None = None,
) -> Any:
    """A dataset as it is trained on: tokenized, cut to `max_length`, padded with EOS as the config says, shuffled.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): in one of TRL's formats.
        tokenizer: see [`as_trained`].
        name (`str`): what messages call the data.
        pads (`bool`): whether responses get more than one EOS, as `max_extra_eos` and `canvas_length` say.
        formatting_func, check: see [`Tokenizing`].

    Raises:
        ValueError: data that are neither text nor chats nor prompts with completions, or a row without response; of a
            stream, when the row is reached.
    """
    if isinstance(dataset, Dataset) and dataset.format["type"] == "custom":
        raise ValueError(
            f"The `{name}` data have a transform (`with_transform`), which would be applied once and for all: use "
            "`map`, or `dataset_kwargs={'skip_prepare_dataset': True}` with a transform that tokenizes."
        )
    if formatting_func is None:
        check_columns(dataset, args.dataset_text_field, name)
    elif args.completion_only_loss:
        raise ValueError("`formatting_func` makes one text of a row, which has no completion: drop it, or "
                         "`completion_only_loss`.")  # fmt: skip
    columns, first = column_names(dataset), first_row(dataset, name)
    completion_only = args.completion_only_loss
    tokenizing = Tokenizing(
        tokenizer,
        args.dataset_text_field,
        {"prompt", "completion"} <= set(columns) if completion_only is None else completion_only,
        args.assistant_only_loss,
        assistant_template(tokenizer, first, name) if args.assistant_only_loss else None,
        formatting_func,
        RowEnds.of(args, tokenizer, pads),
        check,
        name,
        limits or {"mask_token_id": tokenizer.mask_token_id, "vocabulary": None, "context": None},
    )
    options: dict[str, Any] = {"with_indices": True, "remove_columns": columns}
    if isinstance(dataset, Dataset):
        options |= {"num_proc": args.dataset_num_proc, "desc": f"Tokenizing the {name} data"}
    state = PartialState()
    with state.main_process_first(), state.local_main_process_first():  # the others find it in the cache
        dataset = dataset.map(tokenizing, **options)
    return dataset.shuffle(seed=args.seed) if args.shuffle_dataset else dataset


def assistant_template(tokenizer: PreTrainedTokenizerBase, first: dict[str, Any], name: str) -> str | None:
    """The chat template that marks what the assistant says; None for the tokenizer's own.

    Raises:
        ValueError: the data are no chats.
    """
    if not is_chat(first) and "assistant_masks" not in first:
        raise ValueError(f"`assistant_only_loss=True` needs chats, and the `{name}` data are none: drop it.")
    template = tokenizer.chat_template or ""
    chosen = None if has_generation_markers(template) else get_training_chat_template(tokenizer)
    if not is_chat_template_stop_token_trained(tokenizer, chat_template=chosen):
        logger.warning_once(
            "The chat template marks what the assistant says without the token that ends it, so the model may not "
            "learn to end: put it in front of {% endgeneration %}, or drop `assistant_only_loss`."
        )
    return chosen


def is_chat(row: dict[str, Any]) -> bool:
    """Whether a row holds messages, in either of TRL's spellings."""
    try:
        row = read_row(row, "text")
    except ValueError:  # said with the row's number, where rows are checked
        return False
    return is_conversational(row) or is_conversational_from_value(row)
