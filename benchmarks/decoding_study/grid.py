"""A grid of decoders on a prompt set: which settings there are, and who answers what in which order.

Each setting answers each prompt with each seed. Settings take turns at a few prompts at a time, so that a run that is
stopped early leaves a fair table.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from conv_dlm.evaluation.processes import Processes
from conv_dlm.evaluation.sample_folder import Sample
from conv_dlm.generation import DECODE_TYPES

KEY = ("decode_type", "steps", "size", "varied", "seed", "index")  # the fields that tell samples apart
SIZE_FIELDS = ("kernel_size", "block_length")  # a decode type reads one of them, or none
VARIED = ("decode_type", "steps", *SIZE_FIELDS)  # by the grid, of the fields of the generation config
NEIGHBOURS = 8  # batches that follow each other share out their prompts by length
NO_SEED = 0  # stands in samples of settings that draw nothing, whatever the seeds of the run are


@dataclass(frozen=True)
class Setting:
    """A cell of the grid.

    Attributes:
        decode_type (`str`): a name of `conv_dlm.DECODE_TYPES`.
        steps (`int`): denoising steps; of types at their own pace as many as there are tokens, the most that they take.
        size (`int`, *optional*): kernel size of types with a convolution, block length of types with blocks; the
            whole canvas for `None`, and for types that have neither.
        variation (`tuple`, *optional*): further fields of the generation config with their values.
    """

    decode_type: str
    steps: int
    size: int | None = None
    variation: tuple[tuple[str, Any], ...] = ()

    @property
    def varied(self) -> str:
        """The variation as text, which samples and tables have; empty without one."""
        return ", ".join(f"{name}={value}" for name, value in self.variation)

    def options(self, shared: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords of `generate`: its own, and those of `shared` that are not only for other decode types."""
        special = set().union(*(kind.fields for kind in DECODE_TYPES.values()))
        foreign = special - DECODE_TYPES[self.decode_type].fields
        field = size_field(self.decode_type)
        sized = {} if self.size is None or field is None else {field: self.size}
        common = {name: value for name, value in shared.items() if name not in foreign}
        paced = {"steps": self.steps} if "steps" in DECODE_TYPES[self.decode_type].fields else {}
        return common | {"decode_type": self.decode_type} | paced | sized | dict(self.variation)

    def __str__(self) -> str:
        size = "" if self.size is None else f", size {self.size}"
        return f"{self.decode_type}, {self.steps} steps{size}" + (f", {self.varied}" if self.variation else "")


@dataclass(frozen=True)
class Work:
    """A batch to be answered: prompts, by their numbers, in a setting and with a seed."""

    setting: Setting
    seed: int
    prompts: list[int]

    def __len__(self) -> int:
        return len(self.prompts)

    def sample_keys(self) -> list[tuple[Any, ...]]:
        """`KEY` of its samples."""
        setting = self.setting
        cell = (setting.decode_type, setting.steps, setting.size, setting.varied, self.seed)
        return [(*cell, index) for index in self.prompts]


def distinct_samples(records: Iterable[Sample]) -> list[Sample]:
    """Those records of a folder that are samples, each `KEY` once, whoever made them when, in the order of prompts."""
    by_key = {tuple(record[name] for name in KEY): record for record in records if "index" in record}
    return sorted(by_key.values(), key=lambda sample: (sample["index"], sample["seed"]))


def size_field(decode_type: str) -> str | None:
    """`kernel_size` or `block_length`, whichever the decode type reads; `None` if neither."""
    fields = DECODE_TYPES[decode_type].fields
    return next((name for name in SIZE_FIELDS if name in fields), None)


def check_options(decode_types: Collection[str], options: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that none of these decode types reads."""
    for name, value in options.items():
        users = [decode_type for decode_type, kind in DECODE_TYPES.items() if name in kind.fields]
        if users and not set(users) & set(decode_types):
            raise ValueError(
                f"`{name}`={value!r} has no effect with {' '.join(decode_types)}; drop it, or compare one of "
                f"{' '.join(users)} too."
            )


def settings_of(
    decode_types: Iterable[str],
    steps: Iterable[int],
    sizes: Sequence[int],
    canvas: int,
    vary: Mapping[str, Sequence[Any]] | None = None,
) -> tuple[list[Setting], list[Setting]]:
    """All cells, few steps first.

    A type at its own pace has cells for one number of steps, `canvas`. A type without sizes has one cell for each
    number of steps, as one with blocks has where they would be as long as the canvas, or longer.

    Args:
        canvas (`int`): tokens of a response.
        vary (*optional*): values of further fields of the generation config; a type has cells for all combinations of
            those that it reads. `None` leaves a field as it is.

    Returns:
        The cells, and those that can't be: of more blocks than steps.
    """
    cells: dict[Setting, bool] = {}
    for given, decode_type in itertools.product(sorted(set(steps)), decode_types):
        count = given if "steps" in DECODE_TYPES[decode_type].fields else canvas
        field = size_field(decode_type)
        for size in [None] if field is None else sorted(set(sizes)):
            whole = field == "block_length" and size is not None and size >= canvas
            for variation in _variations(decode_type, vary or {}):
                setting = Setting(decode_type, count, None if whole else size, variation)
                cells[setting] = _blocks(setting, canvas) <= count
    return [cell for cell, fits in cells.items() if fits], [cell for cell, fits in cells.items() if not fits]


def _variations(decode_type: str, vary: Mapping[str, Sequence[Any]]) -> Iterator[tuple[tuple[str, Any], ...]]:
    special = set().union(*(kind.fields for kind in DECODE_TYPES.values()))
    names = [name for name in vary if name not in special or name in DECODE_TYPES[decode_type].fields]
    for values in itertools.product(*(vary[name] for name in names)):
        yield tuple((name, value) for name, value in zip(names, values, strict=True) if value is not None)


def _blocks(setting: Setting, canvas: int) -> int:
    """How many there are one after the other; a window that slides is none."""
    if setting.size is None or DECODE_TYPES[setting.decode_type].weights != "block":
        return 1
    return -(-canvas // setting.size)


def schedule(
    settings: Sequence[Setting],
    seeds: Iterable[int],
    lengths: Sequence[int],
    batch_size: int,
    constant: Collection[Setting] = (),
) -> list[list[Work]]:
    """Everything that is to be done, in rounds: in each, every setting answers the same batch with every seed.

    Args:
        lengths: of the prompts; batches hold prompts of about the same length.
        constant: the settings that draw nothing at random. They answer once, as seed `NO_SEED`.
    """

    def batches() -> Iterator[list[int]]:
        for neighbours in _slices(range(len(lengths)), NEIGHBOURS * batch_size):
            yield from _slices(sorted(neighbours, key=lambda number: lengths[number]), batch_size)

    distinct = list(dict.fromkeys(seeds))
    turns = [(setting, seed) for setting in settings for seed in ([NO_SEED] if setting in constant else distinct)]
    return [[Work(setting, seed, prompts) for setting, seed in turns] for prompts in batches()]


def _slices(numbers: Sequence[int], length: int) -> Iterator[list[int]]:
    for start in range(0, len(numbers), length):
        yield list(numbers[start : start + length])


def share(rounds: Sequence[Sequence[Work]], processes: Processes) -> list[Work]:
    """What this process is to do. From round to round each setting goes on to the next process: some take longer."""
    return [
        work
        for number, turns in enumerate(rounds)
        for place, work in enumerate(turns)
        if (number + place) % processes.count == processes.rank
    ]


def pending(work: Iterable[Work], done: Collection[tuple[Any, ...]]) -> list[Work]:
    """The work less what is done.

    Args:
        done: `KEY` of the samples that are there.
    """
    left = []
    for piece in work:
        prompts = [key[-1] for key in piece.sample_keys() if key not in done]
        if prompts:
            left.append(replace(piece, prompts=prompts))
    return left
