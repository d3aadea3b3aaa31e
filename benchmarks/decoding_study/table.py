"""The table of a grid: for each setting its figures with standard errors, as JSON and as Markdown."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmarks.decoding_study.grid import KEY
from benchmarks.decoding_study.long_window import log_priors, token_counts
from benchmarks.decoding_study.scoring import Scores
from conv_dlm.answering.answers import text_of
from conv_dlm.evaluation.figures import Figure, as_figure, figure, shown
from conv_dlm.evaluation.gsm8k import ANSWER_RULES, is_well_formed
from conv_dlm.evaluation.metrics import inliers, is_empty, repeated_ngrams
from conv_dlm.evaluation.perplexity import perplexity, perplexity_with_error
from conv_dlm.evaluation.sample_folder import Sample
from conv_dlm.generation import DECODE_TYPES
from conv_dlm.word_problems import loops

TableRow = dict[str, Any]  # decode_type, steps, size, varied, n, and figures
Cell = tuple[int, str, int | None, str]  # steps, decode type, size, and what is varied besides
GAP = "  "  # between columns on a terminal

# figure -> (heading, factor, format)
COLUMNS: dict[str, tuple[str, float, str]] = {
    **{f"accuracy_{rule}": (f"right ({rule}), %", 100, ".1f") for rule in ANSWER_RULES},
    "accuracy": ("right, %", 100, ".1f"),
    "sound": ("sound, %", 100, ".1f"),
    "form": ("form, %", 100, ".1f"),
    "equations": ("equations right, %", 100, ".1f"),
    "first_step": ("first step right, %", 100, ".1f"),
    "steps_right": ("steps before the first wrong one, %", 100, ".1f"),
    "loops": ("loops, %", 100, ".1f"),
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
    "accuracy": "right %",
    "sound": "sound %",
    "equations": "equations %",
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
        score (*optional*): of prompts with an answer key of their own; see [`PromptSet`].
    """

    tokenizer: Any
    references: list[str] | None = None
    answer_rules: Sequence[str] = ()
    log_priors_V: Tensor | None = None
    scores: Scores | None = None
    reference_scores: list[tuple[float, int]] | None = None
    score: Callable[[int, str], dict[str, float]] | None = None


def table_of(samples: Sequence[Sample], measures: Measures) -> list[TableRow]:
    """One row for each setting, by steps, then in the order of the decode types.

    Args:
        samples: as `distinct_samples` returns them.
    """
    rows = []
    for (steps, decode_type, size, varied), cell in cells_of(samples).items():
        row = {"decode_type": decode_type, "steps": steps, "size": size, "varied": varied, "n": len(cell)}
        rows.append(row | {"prompts": len({sample["index"] for sample in cell})} | figures_of(cell, measures))
    return rows


def cells_of(samples: Sequence[Sample]) -> dict[Cell, list[Sample]]:
    """The samples of each setting, by steps, then in the order of the decode types."""
    cells: dict[Cell, list[Sample]] = {}
    for sample in samples:
        cell = (sample["steps"], sample["decode_type"], sample["size"], sample["varied"])
        cells.setdefault(cell, []).append(sample)
    order = list(DECODE_TYPES)

    def place(cell: Cell) -> tuple[Any, ...]:
        steps, decode_type, size, varied = cell
        return steps, order.index(decode_type), size or math.inf, varied

    return {cell: cells[cell] for cell in sorted(cells, key=place)}


def figures_of(cell: Sequence[Sample], measures: Measures) -> dict[str, Figure]:
    """The figures of a setting's samples; those of one prompt under several seeds are not independent."""
    prompts = [sample["index"] for sample in cell]
    tokens = [len(sample["ids"]) for sample in cell]
    forwards, seconds = ([sample[name] for sample in cell] for name in ("forwards", "seconds"))
    figures = {name: figure(values, clusters=prompts) for name, values in qualities_of(cell, measures).items()}
    if measures.scores is not None:
        figures["perplexity"] = _perplexity(_scores_of(cell, measures.scores), prompts)
    if measures.log_priors_V is not None:
        log_priors = [float(measures.log_priors_V[sample["ids"]].sum()) for sample in cell]
        figures["log_prior"] = figure(log_priors, tokens, prompts)
    return figures | {
        "forwards": figure(forwards, clusters=prompts),
        "seconds": figure(seconds, clusters=prompts),
        "tokens_per_forward": figure(tokens, forwards, prompts),
        "tokens_per_second": figure(tokens, seconds, prompts),
    }


def qualities_of(cell: Sequence[Sample], measures: Measures) -> dict[str, list[float]]:
    """What each sample by itself has a number for, so that settings can be compared prompt by prompt."""
    texts = [text_of(measures.tokenizer, sample["ids"]) for sample in cell]
    qualities: dict[str, list[float]] = {}
    if measures.references is not None:
        references = [measures.references[sample["index"]] for sample in cell]
        for rule in measures.answer_rules:
            qualities[f"accuracy_{rule}"] = list(map(ANSWER_RULES[rule], texts, references))
    if measures.answer_rules:
        qualities["well_formed"] = [is_well_formed(text) for text in texts]
    if measures.score is not None:
        scored = [measures.score(sample["index"], text) for sample, text in zip(cell, texts, strict=True)]
        qualities |= {name: [one[name] for one in scored] for name in scored[0]}
    band = _perplexities([score for score in measures.reference_scores or () if score[1]])
    if measures.scores is not None and len(band) > 1:
        qualities["inliers"] = list(inliers(_perplexities(_scores_of(cell, measures.scores)), band))
    return qualities | {
        "repeated_4grams": [repeated_ngrams(sample["ids"]) for sample in cell],
        "loops": [loops(text) for text in texts],
        "ended": [sample["ended"] for sample in cell],
        "empty": [is_empty(text) for text in texts],
        "tokens": [len(sample["ids"]) for sample in cell],
    }


def reference_figures(measures: Measures) -> dict[str, Figure]:
    """The same of the references, as far as they have it: what a perfect answer would reach."""
    if measures.references is None:
        return {}
    ids = [measures.tokenizer(text, add_special_tokens=False).input_ids for text in measures.references]
    tokens = [len(text) for text in ids]
    repeated = figure([repeated_ngrams(text) for text in ids])
    figures: dict[str, Figure] = {"repeated_4grams": repeated, "tokens": figure(tokens)}
    figures["loops"] = figure(list(map(loops, measures.references)))
    if measures.answer_rules:
        figures["well_formed"] = figure([is_well_formed(text) for text in measures.references])
    if measures.score is not None:
        scored = [measures.score(number, text) for number, text in enumerate(measures.references)]
        figures |= {name: figure([one[name] for one in scored]) for name in scored[0]}
    if measures.log_priors_V is not None:
        figures["log_prior"] = figure([float(measures.log_priors_V[text].sum()) for text in ids], tokens)
    if measures.reference_scores:
        figures["perplexity"] = _perplexity(measures.reference_scores)
    return figures


def log_priors_of(references: Sequence[str], tokenizer: Any, vocab_size: int) -> Tensor:
    """Natural logarithm of each token's share in the references: `FloatTensor` [V]."""
    texts = [tokenizer(text, add_special_tokens=False).input_ids for text in references]
    return log_priors(token_counts(texts, vocab_size))


def to_markdown(rows: Sequence[TableRow], references: dict[str, Figure]) -> str:
    """The table for people; the references are its last row."""
    names = [name for name in COLUMNS if any(row.get(name) for row in rows)]
    headings = ["decode type", "steps", "kernel or block", "n", *(COLUMNS[name][0] for name in names)]
    return markdown_table(headings, _cells(rows, references, names, "`{}`"))


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table whose first columns are `words`, the others numbers."""
    rule = "|" + "-|" * words + "-:|" * (len(headings) - words)
    return "\n".join([_line(headings), rule, *map(_line, lines)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def name_of(row: TableRow, form: str = "`{}`") -> str:
    """The decode type, and what is varied besides."""
    return form.format(row["decode_type"]) + (f", {row['varied']}" if row["varied"] else "")


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
        [name_of(row, form), str(row["steps"]), str(row["size"] or "–"), str(row["n"])] for row in rows
    ]
    figures: list[dict[str, Any]] = list(rows)
    if references:
        settings, figures = [*settings, ["references", "–", "–", "–"]], [*figures, references]
    return [
        setting + [shown(its.get(name), *COLUMNS[name][1:]) for name in names]
        for setting, its in zip(settings, figures, strict=True)
    ]


def _scores_of(cell: Sequence[Sample], scores: Scores) -> list[tuple[float, int]]:
    return [scores[tuple(sample[name] for name in KEY)] for sample in cell]


def _perplexity(scores: Sequence[tuple[float, int]], prompts: Sequence[int] | None = None) -> Figure:
    """Of all texts together; none where nothing was scored."""
    return as_figure(perplexity_with_error(scores, prompts)) if any(tokens for _, tokens in scores) else None


def _perplexities(scores: Sequence[tuple[float, int]]) -> list[float]:
    return [perplexity(nats, tokens) for nats, tokens in scores]
