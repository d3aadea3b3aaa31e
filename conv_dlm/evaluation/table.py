"""The table of a grid: for each setting its figures with standard errors, as JSON and as Markdown."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from conv_dlm.evaluation.answers import text_of
from conv_dlm.evaluation.figures import Figure, figure, shown
from conv_dlm.evaluation.grid import KEY
from conv_dlm.evaluation.gsm8k import ANSWER_RULES, is_well_formed
from conv_dlm.evaluation.long_window import log_priors, token_counts
from conv_dlm.evaluation.metrics import inliers, is_empty, repeated_ngrams
from conv_dlm.evaluation.perplexity import perplexity
from conv_dlm.evaluation.sample_folder import Sample
from conv_dlm.evaluation.scoring import Scores
from conv_dlm.generation import DECODE_TYPES

TableRow = dict[str, Any]  # decode_type, steps, size, n, and figures
GAP = "  "  # between columns on a terminal

# figure -> (heading, factor, format)
COLUMNS: dict[str, tuple[str, float, str]] = {
    **{f"accuracy_{rule}": (f"right ({rule}), %", 100, ".1f") for rule in ANSWER_RULES},
    "well_formed": ("ends in `#### n`, %", 100, ".1f"),
    "perplexity": ("perplexity", 1, ".1f"),
    "inliers": ("inliers, %", 100, ".1f"),
    "repeated_4grams": ("repeated 4-grams, %", 100, ".1f"),
    "log_prior": ("log prior", 1, ".2f"),
    "ended": ("ended, %", 100, ".0f"),
    "empty": ("empty, %", 100, ".1f"),
    "tokens": ("tokens", 1, ".1f"),
    "forwards": ("forwards", 1, ".1f"),
    "seconds": ("seconds", 1, ".2f"),
    "tokens_per_forward": ("tokens / forward", 1, ".2f"),
    "tokens_per_second": ("tokens / s", 1, ".1f"),
}
# what a terminal shows too, by importance -> a narrower heading
SHORT = {
    "forwards": "forwards",
    **{f"accuracy_{rule}": f"{rule} %" for rule in ANSWER_RULES},
    "perplexity": "perplexity",
    "inliers": "inliers %",
    "repeated_4grams": "rep-4 %",
    "log_prior": "log prior",
    "well_formed": "#### n %",
}


@dataclass(frozen=True)
class Measures:
    """What samples are measured by.

    Attributes:
        tokenizer: that of the samples.
        references (`list[str]`, *optional*): an answer to each prompt.
        answer_rules: names of `ANSWER_RULES`: the prompts are GSM8K's, and these judge answers.
        log_priors_V (`FloatTensor` [V], *optional*): natural logarithm of each token's share in the references.
        scores (*optional*): nats and tokens of each sample's text under another model.
        reference_scores (*optional*): the same of the references. Inliers need two of which something was scored.
    """

    tokenizer: Any
    references: list[str] | None = None
    answer_rules: Sequence[str] = ()
    log_priors_V: Tensor | None = None
    scores: Scores | None = None
    reference_scores: list[tuple[float, int]] | None = None


def table_of(samples: Sequence[Sample], measures: Measures) -> list[TableRow]:
    """One row for each setting, by steps, then in the order of the decode types.

    Args:
        samples: as `distinct_samples` returns them.
    """
    cells: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in samples:
        cells.setdefault((sample["steps"], sample["decode_type"], sample["size"]), []).append(sample)
    order = list(DECODE_TYPES)
    rows = []
    for (steps, decode_type, size), cell in sorted(
        cells.items(), key=lambda item: (item[0][0], order.index(item[0][1]), item[0][2] or math.inf)
    ):
        row = {"decode_type": decode_type, "steps": steps, "size": size, "n": len(cell)}
        rows.append(row | {"prompts": len({sample["index"] for sample in cell})} | figures_of(cell, measures))
    return rows


def figures_of(cell: Sequence[Sample], measures: Measures) -> dict[str, Figure]:
    """The figures of a setting's samples; those of one prompt under several seeds are not independent."""
    prompts = [sample["index"] for sample in cell]
    texts = [text_of(measures.tokenizer, sample["ids"]) for sample in cell]
    tokens = [len(sample["ids"]) for sample in cell]
    forwards, seconds = ([sample[name] for sample in cell] for name in ("forwards", "seconds"))

    def mean(values: Sequence[float]) -> Figure:
        return figure(values, clusters=prompts)

    figures: dict[str, Figure] = {}
    if measures.references is not None:
        references = [measures.references[prompt] for prompt in prompts]
        for rule in measures.answer_rules:
            figures[f"accuracy_{rule}"] = mean(list(map(ANSWER_RULES[rule], texts, references)))
    if measures.answer_rules:
        figures["well_formed"] = mean([is_well_formed(text) for text in texts])
    if measures.scores is not None:
        scores = [measures.scores[tuple(sample[name] for name in KEY)] for sample in cell]
        nats, scored = zip(*scores, strict=True)
        figures["perplexity"] = _exponential(figure(nats, scored, prompts))
        band = _perplexities([score for score in measures.reference_scores or () if score[1]])
        if len(band) > 1:
            figures["inliers"] = mean(inliers(_perplexities(scores), band))
    if measures.log_priors_V is not None:
        log_priors = [float(measures.log_priors_V[sample["ids"]].sum()) for sample in cell]
        figures["log_prior"] = figure(log_priors, tokens, prompts)
    return figures | {
        "repeated_4grams": mean([repeated_ngrams(sample["ids"]) for sample in cell]),
        "ended": mean([sample["ended"] for sample in cell]),
        "empty": mean([is_empty(text) for text in texts]),
        "tokens": mean(tokens),
        "forwards": mean(forwards),
        "seconds": mean(seconds),
        "tokens_per_forward": figure(tokens, forwards, prompts),
        "tokens_per_second": figure(tokens, seconds, prompts),
    }


def reference_figures(measures: Measures) -> dict[str, Figure]:
    """The same of the references, as far as they have it: what a perfect answer would reach."""
    if measures.references is None:
        return {}
    ids = [measures.tokenizer(text, add_special_tokens=False).input_ids for text in measures.references]
    tokens = [len(text) for text in ids]
    repeated = figure([repeated_ngrams(text) for text in ids])
    figures: dict[str, Figure] = {"repeated_4grams": repeated, "tokens": figure(tokens)}
    if measures.answer_rules:
        figures["well_formed"] = figure([is_well_formed(text) for text in measures.references])
    if measures.log_priors_V is not None:
        figures["log_prior"] = figure([float(measures.log_priors_V[text].sum()) for text in ids], tokens)
    if measures.reference_scores:
        nats, scored = zip(*measures.reference_scores, strict=True)
        figures["perplexity"] = _exponential(figure(nats, scored))
    return figures


def log_priors_of(references: Sequence[str], tokenizer: Any, vocab_size: int) -> Tensor:
    """Natural logarithm of each token's share in the references: `FloatTensor` [V]."""
    texts = [tokenizer(text, add_special_tokens=False).input_ids for text in references]
    return log_priors(token_counts(texts, vocab_size))


def to_markdown(rows: Sequence[TableRow], references: dict[str, Figure]) -> str:
    """The table for people; the references are its last row."""
    names = [name for name in COLUMNS if any(row.get(name) for row in rows)]
    headings = ["decode type", "steps", "kernel or block", "n", *(COLUMNS[name][0] for name in names)]
    lines = ["| " + " | ".join(headings) + " |", "|-|" + "-:|" * (len(headings) - 1)]
    lines += ["| " + " | ".join(cells) + " |" for cells in _cells(rows, references, names, "`{}`")]
    return "\n".join(lines) + "\n"


def to_text(rows: Sequence[TableRow], references: dict[str, Figure], width: int) -> str:
    """The same for a terminal of this width: the settings, and as many of the figures in `SHORT` as there is room for.
    """
    names = [name for name in SHORT if any(row.get(name) for row in rows)]
    headings = ["decode type", "steps", "size", "n", *(SHORT[name] for name in names)]
    first, *others = zip(headings, *_cells(rows, references, names, "{}"), strict=True)
    columns, room = [_aligned(first, str.ljust)], width - max(map(len, first))
    for number, cells in enumerate(others):
        column = _aligned(cells, str.rjust)
        room -= len(GAP) + len(column[0])
        if room < 0 and number >= 3:  # those of the setting are always there
            break
        columns.append(column)
    return "".join(GAP.join(line) + "\n" for line in zip(*columns, strict=True))


def _aligned(cells: Sequence[str], how: Callable[[str, int], str]) -> list[str]:
    width = max(map(len, cells))
    return [how(cell, width) for cell in cells]


def _cells(
    rows: Sequence[TableRow], references: dict[str, Figure], names: Sequence[str], form: str
) -> list[list[str]]:
    """What stands in the table, line by line."""
    settings = [
        [form.format(row["decode_type"]), str(row["steps"]), str(row["size"] or "–"), str(row["n"])] for row in rows
    ]
    figures: list[dict[str, Any]] = list(rows)
    if references:
        settings, figures = [*settings, ["references", "–", "–", "–"]], [*figures, references]
    return [
        setting + [shown(its.get(name), *COLUMNS[name][1:]) for name in names]
        for setting, its in zip(settings, figures, strict=True)
    ]


def _perplexities(scores: Sequence[tuple[float, int]]) -> list[float]:
    return [perplexity(nats, tokens) for nats, tokens in scores]


def _exponential(value: Figure) -> Figure:
    """exp of a figure; its error to first order."""
    if value is None or value[0] is None:
        return None
    mean = math.exp(value[0])
    return [mean, None if value[1] is None else mean * value[1]]
