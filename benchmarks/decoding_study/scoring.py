"""Perplexities of samples and of their references under another model, kept in a folder that a run can go on with."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.decoding_study.grid import KEY
from conv_dlm.answering.answers import text_of
from conv_dlm.answering.loading import own_name
from conv_dlm.evaluation.perplexity import load_scorer, text_losses
from conv_dlm.evaluation.sample_folder import Sample, SampleFolder

Key = tuple[Any, ...]
Scores = dict[Key, tuple[float, int]]  # `KEY` of a sample -> nats and tokens of its text
CHUNK = 64  # texts between two writes
MAX_TOKENS = 1024  # of a text that are scored, as in arXiv 2509.15188
REFERENCE = "reference"


class Scorer:
    """A causal LM that is loaded when it is needed first.

    Args:
        name (`str`): as `load_scorer` takes it.
        device (`torch.device` or `str`): where it is put.
    """

    def __init__(self, name: str, device: torch.device | str) -> None:
        self.name, self.device = own_name(name), device
        self._source = name

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        """The model and its tokenizer."""
        return load_scorer(self._source, self.device)

    @property
    def max_tokens(self) -> int:
        """Of a text that are scored: not more than it reads at once."""
        window = getattr(self.loaded[0].config.get_text_config(), "max_position_embeddings", None)
        return min(MAX_TOKENS, window or MAX_TOKENS)


def score_samples(
    samples: Sequence[Sample],
    references: Sequence[str] | None,
    tokenizer: Any,
    scorer: Scorer,
    folder: Path,
    batch_size: int,
    progress: Callable[[list[list[Key]]], Iterable[list[Key]]] = iter,
) -> tuple[Scores, list[tuple[float, int]]]:
    """Nats and tokens of each sample's text, and of each reference. What is scored already needs no scorer.

    Args:
        references: one for each prompt, or none.
        tokenizer: that of the samples.
        folder: of the run; scores are kept in a folder of it.
        progress: shows how far the chunks of keys are.

    Returns:
        Scores by `KEY`, and a list of those of the references.

    Raises:
        ValueError: what is kept is of another scorer.
    """
    settings = {"scorer": scorer.name, "max_tokens": MAX_TOKENS}
    kept = SampleFolder(folder / f"scores-{Path(scorer.name).name}", settings)
    done = {tuple(score["key"]): (score["nats"], score["tokens"]) for score in kept.samples()}
    texts = {tuple(sample[field] for field in KEY): sample["ids"] for sample in samples}
    of_references = {(REFERENCE, number): text for number, text in enumerate(references or ())}
    todo: list[Key] = [key for key in (*texts, *of_references) if key not in done]
    for keys in progress([todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]):
        chunk = [of_references[key] if key in of_references else text_of(tokenizer, texts[key]) for key in keys]
        losses = text_losses(*scorer.loaded, chunk, batch_size, max_tokens=scorer.max_tokens)
        kept.add({"key": key, "nats": nats, "tokens": tokens} for key, (nats, tokens) in zip(keys, losses, strict=True))
        done |= dict(zip(keys, losses, strict=True))
    return {key: done[key] for key in texts}, [done[key] for key in of_references]
