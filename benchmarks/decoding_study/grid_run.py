"""Answering a grid: resumable, and shared by the processes of a launcher."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.decoding_study.grid import KEY, VARIED, Setting, Work, schedule
from conv_dlm.answering.answers import encode
from conv_dlm.answering.batching import row_generator
from conv_dlm.answering.prompting import Prompter
from conv_dlm.evaluation.respondent import Respondent, decoding_fields, denoiser
from conv_dlm.evaluation.sample_folder import SampleFolder
from conv_dlm.generation.configuration import user_settings


def shared_decoding(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the answers of all settings depend on, of the fields of the generation config.

    That is what `options` say, else the checkpoint, else the defaults; `None` is left to each decode type.

    Raises:
        ValueError: responses have no length, or none of their own.
    """
    defaults = {name: its.default for name, its in user_settings().items()}
    if model.generation_config.max_length is not None:
        defaults["max_new_tokens"] = None
    decoding = {}
    for name in decoding_fields():
        if name not in VARIED:
            candidates = (options.get(name), getattr(model.generation_config, name, None), defaults.get(name))
            decoding[name] = next((value for value in candidates if value is not None), None)
    if not decoding["max_new_tokens"]:
        raise ValueError(
            f"`max_new_tokens`={decoding['max_new_tokens']}: answers are compared on a canvas of one length; give at "
            "least 1."
        )
    return decoding


@dataclass(frozen=True)
class Grid:
    """Who is asked what, and when.

    Attributes:
        respondents (`dict`): who answers in each setting: one model, with other options.
        texts (`list[str]`): all prompts, as the model reads them.
        ids (`list[list[int]]`): their tokens.
        rounds: as `schedule` returns them.
        refused (`dict`): the settings that can't be, since their variation doesn't go with the rest, and why.
    """

    respondents: dict[Setting, Respondent]
    texts: list[str]
    ids: list[list[int]]
    rounds: list[list[Work]]
    refused: dict[Setting, str]

    @property
    def one(self) -> Respondent:
        """Any of them, for what they have in common."""
        return next(iter(self.respondents.values()))

    def done_in(self, folder: SampleFolder) -> tuple[int, int]:
        """How many samples of this grid are there, and how many there will be."""
        wanted = {key for turns in self.rounds for work in turns for key in work.sample_keys()}
        return len(wanted & folder.keys(*KEY)), len(wanted)


def make_grid(
    settings: Sequence[Setting],
    prompts: Sequence[str],
    seeds: Iterable[int],
    batch_size: int,
    model: Any,
    tokenizer: Any,
    prompter: Prompter,
    options: Mapping[str, Any],
) -> Grid:
    """A grid that can be answered from beginning to end.

    Args:
        options: keywords of `generate` for all settings whose decode type reads them.

    Raises:
        ValueError: the options of a setting don't go together, or a prompt can't be answered; says which.
    """
    respondents, refused = {}, {}
    for setting in settings:
        try:
            respondent = denoiser(model, tokenizer, prompter, **setting.options(options))
            if setting.variation:  # caches and types that don't go together are refused by `generate` alone
                model.check_generate(torch.ones(1, 1, dtype=torch.long), **setting.options(options))
            respondents[setting] = respondent
        except ValueError as error:
            if not setting.variation:
                raise ValueError(f"{setting}: {error}") from error
            refused[setting] = str(error)
    if not respondents:
        raise ValueError("; ".join(f"{setting}: {why}" for setting, why in refused.items()))
    texts = [prompter([{"role": "user", "content": prompt}]) for prompt in prompts]
    ids = _checked_ids(texts, next(iter(respondents.values())))
    constant = [setting for setting, respondent in respondents.items() if _is_constant(respondent)]
    rounds = schedule(list(respondents), seeds, list(map(len, ids)), batch_size, constant)
    return Grid(respondents, texts, ids, rounds, refused)


def _is_constant(respondent: Respondent) -> bool:
    """Whether it draws nothing at random, so that all seeds give the same answer."""
    return not respondent.decoding["temperature"] and respondent.decoding["remasking"] != "random"


def _checked_ids(texts: Sequence[str], respondent: Respondent) -> list[list[int]]:
    """Tokens of each prompt. Raises ValueError for one that can't be answered, which ends a run after hours else."""
    model = respondent.model
    length = respondent.decoding["max_new_tokens"]
    rows = []
    for number, text in enumerate(texts):
        try:
            ids = encode(respondent.tokenizer, [text], not respondent.prompter.templated)["input_ids"][0].tolist()
            model.check_generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=length)
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error
        rows.append(ids)
    return rows


def answer_grid(grid: Grid, work: Iterable[Work], folder: SampleFolder, run: dict[str, Any]) -> None:
    """Answer this work, and keep the answers batch by batch.

    Args:
        work: as `pending` returns it; what shows progress, or watches the time, may be around it.
        run (`dict`): the circumstances, as `describe_run` gives them; kept beside the answers.

    Raises:
        ValueError: a prompt can't be answered; names the setting and the rows of its batch.
    """
    for piece in work:
        texts = [grid.texts[index] for index in piece.prompts]
        generators = [row_generator(piece.seed, index) for index in piece.prompts]
        try:
            answers = grid.respondents[piece.setting].ask(texts, generators)
        except ValueError as error:
            raise ValueError(f"{piece.setting}, rows {', '.join(map(str, piece.prompts))}: {error}") from error
        keyed = zip(piece.sample_keys(), answers, strict=True)
        folder.add((dict(zip(KEY, key, strict=True)) | asdict(given) for key, given in keyed), run)


def within_minutes(work: Iterable[Work], minutes: float | None) -> Iterator[Work]:
    """The work that begins in this time from now on; all of it for `None`."""
    started = time.monotonic()
    for piece in work:
        if minutes is not None and time.monotonic() - started >= 60 * minutes:
            return
        yield piece


def wait_for_all(grid: Grid, folder: SampleFolder, seconds: float = 1.0) -> None:
    """Return when all samples are there: the other processes may be still at theirs."""
    while len(set(grid.done_in(folder))) > 1:
        time.sleep(seconds)
