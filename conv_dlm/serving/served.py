"""The served model: checks requests and turns them into prompts."""

import functools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from conv_dlm.answering.answers import encode, end_tokens, text_of
from conv_dlm.answering.prompting import Prompter, as_text, tokens_of
from conv_dlm.constraints.vocabulary import token_bytes
from conv_dlm.generation.capabilities import longest_context
from conv_dlm.generation.configuration import EXCLUSIVE_FIELDS
from conv_dlm.generation.errors import SettingError
from conv_dlm.serving.errors import Refused
from conv_dlm.serving.fields import decode_settings, shown
from conv_dlm.serving.requests import Request


@dataclass(frozen=True)
class Limits:
    """Upper limits of a request.

    Args:
        new_tokens (`int`): length of the canvas.
        steps (`int`): steps of the reverse process.
    """

    new_tokens: int
    steps: int


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it.

    Attributes:
        ids (`list[int]`): its tokens; with a suffix, also the masks and the suffix.
        tokens (`int`): the number of tokens without the masks.
        gap (`int` or `None`): the number of masks before the suffix.
        options (`dict`): keyword arguments of `generate`.
        settings (`str`): all effective settings, as JSON.
    """

    ids: list[int]
    tokens: int
    gap: int | None
    options: dict[str, Any]
    settings: str


class ServedModel:
    """A model and its tokenizer, served under a name.

    Args:
        name (`str`): the name that clients use.
        model: a model with the `generate` of `conv_dlm`; its generation config is updated with the `options`.
        tokenizer: its tokenizer, padding at the left.
        prompter (`Prompter`): formats messages; its system message is used for requests without one.
        options (`dict`): keyword arguments of `generate`, the defaults of requests.
        limits (`Limits`): upper limits of requests.

    Raises:
        ValueError: the options contradict each other, or exceed the limits.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        prompter: Prompter,
        options: dict[str, Any],
        limits: Limits,
    ) -> None:
        self.name, self.model, self.tokenizer, self.limits = name, model, tokenizer, limits
        self.system, self.prompter = prompter.system, Prompter(tokenizer, raw=prompter.raw)
        config = model.generation_config
        if config.pad_token_id is None:
            config.pad_token_id = tokenizer.pad_token_id
        if config.pad_token_id is None:
            raise ValueError("The tokenizer has no pad token, which batches need; give one that has by `--tokenizer`.")
        one = torch.ones(1, 1, dtype=torch.long)
        defaults = model.check_generate(one * config.pad_token_id, attention_mask=one, strict=True, **options)
        if defaults.max_new_tokens is None:
            raise ValueError("The model's generation config has a `max_length`; give `--max-new-tokens`.")
        self.default_length = defaults.max_new_tokens
        for field, value, limit in (
            ("max_new_tokens", defaults.max_new_tokens, limits.new_tokens),
            ("steps", defaults.steps, limits.steps),
        ):
            if not 1 <= value <= limit:
                raise ValueError(f"`{field}`={value} of the server must be at least 1, and at most its limit, {limit}.")
        # They become the model's own: a request is checked only for its own settings, and may make them ineffective.
        for together in EXCLUSIVE_FIELDS:
            if options.keys() & set(together):
                config.update(**dict.fromkeys(together))
        config.update(**options)

    @property
    def decode(self) -> Callable[[list[int]], str]:
        """Decodes tokens to text, without special tokens."""
        return lambda ids: text_of(self.tokenizer, ids)

    @property
    def end_token_ids(self) -> set[int]:
        return end_tokens(self.model, {})

    @functools.cached_property
    def token_bytes(self) -> Sequence[bytes | None]:
        """The bytes of each token, None for special ones."""
        return token_bytes(self.tokenizer)

    def check_model(self, name: str | None) -> None:
        """Raise Refused if another model is asked for."""
        if name not in (None, self.name):
            raise Refused(
                f"`model`={shown(name)} is not here; this server has {self.name!r}.", 404, "model", "model_not_found"
            )

    def prompts(self, request: Request) -> list[Prompt]:
        """The prompts of a request as the model reads them.

        Raises:
            Refused: the request asks for another model, exceeds the limits, or can't be generated.
        """
        self.check_model(request.model)
        length = self._length(request)
        try:
            return [self._prompt(ids, request, length) for ids in self._encoded(request)]
        except ValueError as error:
            field = error.field if isinstance(error, SettingError) else None
            known = decode_settings().keys() | {"max_new_tokens", "top_p"}
            raise Refused(str(error), param=field if field in known else None) from error

    def seeds(self, request: Request) -> list[tuple[int, ...]]:
        """A seed for each answer, from the request's seed, or a random one, and the number of the answer."""
        seed = secrets.randbits(62) if request.seed is None else request.seed
        return [(seed, index) for index in range(request.rows)]

    def _length(self, request: Request) -> int:
        length = self.default_length if request.max_new_tokens is None else request.max_new_tokens
        for name, value, limit in (
            ("max_tokens", length, self.limits.new_tokens),
            ("steps", request.settings.get("steps", 1), self.limits.steps),
        ):
            if value > limit:
                raise Refused(f"`{name}`={value} is more than this server allows, {limit}; lower it.", param=name)
        return length

    def _encoded(self, request: Request) -> list[list[int]]:
        """The tokens of each prompt. The mask's name is text: gaps are asked for by a `suffix`."""
        if request.messages:
            own = (
                []
                if self.system is None or request.messages[0]["role"] == "system"
                else [{"role": "system", "content": self.system}]
            )
            return [self._tokens(self.prompter([*own, *request.messages]), not self.prompter.templated)]
        return [self._checked(one) if isinstance(one, list) else self._tokens(one, True) for one in request.prompts]

    def _tokens(self, text: str, special: bool) -> list[int]:
        """The tokens of a text, unless it can be seen that they are too many without making them."""
        most = None if self.context is None else self.context * self._longest_token
        if most is not None and len(text) > most:
            raise Refused(
                f"The prompt has {len(text)} characters, which is more than the model's context of {self.context} "
                "tokens can hold; shorten it."
            )
        mended = self._without_masks(text, keep_breaks=not special)
        return list(encode(self.tokenizer, [mended], special)["input_ids"][0].tolist())

    def _without_masks(self, text: str, keep_breaks: bool = False) -> str:
        mask = self.tokenizer.convert_ids_to_tokens(self.model.generation_config.mask_token_id)
        return text if mask is None else as_text(text, {str(mask)}, keep_breaks)

    def _checked(self, ids: list[int]) -> list[int]:
        """Raise Refused for tokens that the model has not, or that are the mask."""
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        for token in ids:
            if not 0 <= token < vocabulary or token == self.model.generation_config.mask_token_id:
                raise Refused(
                    f"`prompt` has the token {token}, which is not one of the {vocabulary} of the model, or its mask.",
                    param="prompt",
                )
        return ids

    @functools.cached_property
    def context(self) -> int | None:
        """The most positions that the model has, where its config says so."""
        return longest_context(self.model.config)

    @functools.cached_property
    def _longest_token(self) -> int:
        """The most characters of a token."""
        return max(map(len, self.tokenizer.get_vocab()))

    def _prompt(self, ids: list[int], request: Request, length: int) -> Prompt:
        mask, gap, tokens = self.model.generation_config.mask_token_id, None, len(ids)
        suffix = self._suffix(request.suffix) if request.suffix else []
        if suffix:
            gap, ids = length, [*ids, *[mask] * length, *suffix]
        options: dict[str, Any] = request.settings | {"max_new_tokens": length if gap is None else 0}
        prompt = torch.tensor([ids])
        if request.constraint is not None:
            options |= {"constraint": request.constraint, "tokenizer": self.tokenizer}
        if request.logit_bias:
            self._check_bias(request.logit_bias)
            options["sequence_bias"] = [[[token], bias] for token, bias in sorted(request.logit_bias.items())]
        check = functools.partial(
            self.model.check_generate, prompt, attention_mask=torch.ones_like(prompt), strict=True
        )
        config = check(**options)
        if request.top_p < 1 and config.is_random:  # else the most likely token is taken, which it never excludes
            options["top_p"] = request.top_p
            config = check(**options)
        settings = config.to_json_string()
        if request.constraint is not None:
            settings += request.constraint.expression
        return Prompt(ids, tokens + len(suffix), gap, options, f"{settings} {request.scored}")

    def _suffix(self, text: str) -> list[int]:
        return tokens_of(self.tokenizer, self._without_masks(text), False)

    def _check_bias(self, bias: dict[int, float]) -> None:
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        for token in bias:
            if token >= vocabulary:
                raise Refused(f"`logit_bias` has the token {token}; the model has {vocabulary}.", param="logit_bias")
