"""The timed cases: decode types and baselines x lengths x steps x batch sizes x caches."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conv_dlm.cost.baselines import BLOCK, THRESHOLD, dual_cache_loop, llada_loop, threshold_loop
from conv_dlm.generation import DECODE_TYPES
from conv_dlm.generation.configuration import users_of

# fields of the generation config for which a run takes several values
VARIED = ("decode_type", "steps", "max_new_tokens", "cache_implementation")


class Baseline(NamedTuple):
    """A plain loop.

    Attributes:
        run: (model, prompts [B, P], mask id, new tokens, **options) -> sequences [B, P + new tokens].
        fields: the options of `generate` that it supports.
        summary: one line for help texts.
    """

    run: Callable[..., Tensor]
    fields: tuple[str, ...]
    summary: str


@torch.no_grad()
def _llada(
    model: Any, prompt: Tensor, mask: int, new_tokens: int, steps: int, block_length: int | None = None
) -> Tensor:
    block = min(block_length or new_tokens, new_tokens)
    if new_tokens % block or steps % (new_tokens // block):
        raise ValueError(f"{new_tokens} tokens in blocks of {block} and {steps} steps can't be shared out evenly.")
    return llada_loop(lambda ids: model(input_ids=ids).logits, prompt, mask, new_tokens, steps, block)


@torch.no_grad()
def _threshold(
    model: Any, prompt: Tensor, mask: int, new_tokens: int, block_length: int = BLOCK, threshold: float = THRESHOLD
) -> Tensor:
    return threshold_loop(
        lambda ids: model(input_ids=ids).logits, prompt, mask, new_tokens, block_length, threshold
    )


@torch.no_grad()
def _dual_cache(
    model: Any, prompt: Tensor, mask: int, new_tokens: int, block_length: int = BLOCK, threshold: float = THRESHOLD
) -> Tensor:
    return dual_cache_loop(model, prompt, mask, new_tokens, block_length, threshold)


BASELINES: dict[str, Baseline] = {
    "llada": Baseline(_llada, ("steps", "block_length"), "LLaDA's loop, arXiv 2502.09992"),
    "threshold": Baseline(_threshold, ("block_length", "threshold"), "block threshold decoding, arXiv 2505.22618"),
    "dual_cache": Baseline(_dual_cache, ("block_length", "threshold"), "the same with that paper's dual cache"),
}


@dataclass(frozen=True)
class Case:
    """The settings of one line of the table.

    Attributes:
        name (`str`): a decode type, or a key of `BASELINES`.
        is_baseline (`bool`): which of the two it is.
        max_new_tokens, batch_size (`int`): L and B.
        steps (`int`, *optional*): S; `None` for adaptive types.
        cache (`str`, *optional*): `cache_implementation`.
        options (`dict`): further keyword arguments of `generate`, or of the baseline.
    """

    name: str
    is_baseline: bool
    max_new_tokens: int
    batch_size: int
    steps: int | None = None
    cache: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def setting(self) -> str:
        """The label in a table, without length and batch size."""
        words = ["plain" if self.is_baseline else "", self.name, "" if self.steps is None else str(self.steps)]
        return " ".join([*filter(None, words), *([self.cache] if self.cache else [])])

    def __str__(self) -> str:
        return f"{self.setting}, {self.max_new_tokens} tokens, batch {self.batch_size}"

    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of `generate`."""
        own = {"decode_type": self.name, "max_new_tokens": self.max_new_tokens, **self.options}
        own |= {} if self.steps is None else {"steps": self.steps}
        return own | ({} if self.cache is None else {"cache_implementation": self.cache})


def check_options(decode_types: Sequence[str], caches: Sequence[str], baselines: Sequence[str], options: Any) -> None:
    """Raise ValueError for an option without an effect in this run."""
    for name, value in options.items():
        flag = f"`--{name.replace('_', '-')}`={value!r} has no effect"
        users = {kind for kind, parts in DECODE_TYPES.items() if name in parts.fields}
        plain = {kind for kind, baseline in BASELINES.items() if name in baseline.fields}
        if (users or plain) and not (users & set(decode_types) or plain & set(baselines)):
            raise ValueError(f"{flag} here; drop it, or time one of {' '.join(sorted(users))} too.")
        wanted = _caches_of(name)
        if wanted and not set(wanted) & set(caches):
            raise ValueError(f"{flag} without `--caches` {' or '.join(wanted)}; drop it, or name that cache.")


def _caches_of(name: str) -> list[str]:
    """Caches that read a setting which no decode type reads."""
    users = users_of(name)
    return [] if "decode_type" in users else users.get("cache_implementation", [])


def make_cases(
    decode_types: Sequence[str],
    baselines: Sequence[str],
    lengths: Sequence[int],
    steps: Sequence[int],
    batch_sizes: Sequence[int],
    caches: Sequence[str],
    options: Mapping[str, Any],
) -> list[Case]:
    """Make all cases, those of the same length and batch size next to each other.

    Args:
        decode_types, baselines (sequences of `str`): names of the methods.
        lengths, steps, batch_sizes (sequences of `int`): values to combine.
        caches (sequence of `str`): names of `cache_implementation`, or "none".
        options (`dict`): keyword arguments of `generate`; each case gets those that it supports.
    """
    cases: dict[tuple[Any, ...], Case] = {}
    for length, batch in itertools.product(lengths, batch_sizes):
        for case in _side_by_side(decode_types, baselines, length, steps, batch, caches, options):
            cases.setdefault((case.setting, case.is_baseline, length, batch), case)
    return list(cases.values())


def _side_by_side(
    decode_types: Sequence[str],
    baselines: Sequence[str],
    length: int,
    steps: Sequence[int],
    batch: int,
    caches: Sequence[str],
    options: Mapping[str, Any],
) -> Iterator[Case]:
    for name in baselines:
        fields = BASELINES[name].fields
        own = {option: value for option, value in options.items() if option in fields}
        for count in steps if "steps" in fields else [None]:
            yield Case(name, True, length, batch, count, None, own)
    for name in decode_types:
        counts = steps if "steps" in DECODE_TYPES[name].fields else [None]
        for cache, count in itertools.product(caches, counts):
            kept = None if cache == "none" else cache
            yield Case(name, False, length, batch, count, kept, _options_of(name, kept, options))


def _options_of(decode_type: str, cache: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, without those for other decode types or caches only."""
    special = set().union(*(kind.fields for kind in DECODE_TYPES.values())) - DECODE_TYPES[decode_type].fields
    others = {name for name in options if (caches := _caches_of(name)) and cache not in caches}
    return {name: value for name, value in options.items() if name not in special | others}
