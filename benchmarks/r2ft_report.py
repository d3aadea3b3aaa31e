"""From the rows of the R2FT study to its figures, each with its standard error over rows, as JSON and Markdown."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.grid_report import GridReport, figure
from benchmarks.r2ft_measures import R2FTMeasures, Record
from benchmarks.r2ft_tables import to_markdown
from conv_dlm.evaluation import KINDS, is_well_formed, repeated_ngrams

EDGES = (0, 1, 10, 32, 96)  # distances from the prompt at which the table's ranges begin
TEXT_KINDS = tuple(kind for kind in KINDS if kind != "eos")


@dataclass
class R2FTReport:
    """Figures of the study's models, and of the reference answers beside them.

    samples: of each model its records, the first model being that with which the others are compared.
    measures: what they were measured with.
    """

    samples: dict[str, list[Record]]
    measures: R2FTMeasures

    def write(self, path: Path, run: dict[str, Any]) -> None:
        """Write the figures and what is known of the `run` to `path`, and the same for people beside it as `.md`."""
        first = next(iter(self.samples))
        models = {name: self.model(samples) for name, samples in self.samples.items()}
        changes = {name: self.changes(self.samples[first], samples) for name, samples in self.samples.items()}
        del changes[first]
        result = run | {"reference": self.reference(), "models": models, "changes": changes}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_as_json(result), encoding="utf-8")
        path.with_suffix(".md").write_text(to_markdown(result), encoding="utf-8")

    def model(self, samples: list[Record]) -> dict[str, Any]:
        """All figures of one model."""
        pairs = [sample for sample in samples if "chosen" in sample]
        margins = [pair["chosen"] - pair["rejected"] for pair in pairs]
        log_p = {
            "n": len(pairs),
            "chosen": figure([pair["chosen"] for pair in pairs]),
            "rejected": figure([pair["rejected"] for pair in pairs]),
            "margin": figure(margins),
            "accuracy": figure([margin > 0 for margin in margins]),
        }
        grid = self._grid(samples)
        return {"loss": grid.held_out_loss(), "log_p": log_p, "masses": masses(samples), "grid": grid.grid()}

    def reference(self) -> dict[str, Any]:
        """The same of the reference answers, as far as they have it."""
        ids = [self.measures.encode(question.answer) for question in self.measures.questions]
        grid = self._grid([])
        return {
            "n": len(ids),
            "masses": masses(self.measures.reference_masses()),
            "repeated_4grams": figure([repeated_ngrams(row) for row in ids]),
            "log_prior": grid.log_prior(ids),
            "tokens": figure([len(row) for row in ids]),
        }

    def changes(self, before: list[Record], after: list[Record]) -> dict[str, Any]:
        """Differences of two models over the rows that both have: what is common to both drops out of the error."""
        losses = _pairs(before, after, "loss")
        return {
            "loss": figure([b["loss"] - a["loss"] for a, b in losses], [a["tokens"] for a, _ in losses]),
            "log_p": {
                key: figure([b[key] - a[key] for a, b in _pairs(before, after, key)]) for key in ("chosen", "rejected")
            },
            "grid": self._grid(before).changes(self._grid(after)),
        }

    def _grid(self, samples: list[Record]) -> "AnswerGrid":
        references = {question.index: question.answer for question in self.measures.questions}
        return AnswerGrid(samples, references, self.measures.tokenizer, self.measures.log_priors)


@dataclass
class AnswerGrid(GridReport):
    """The GSM8K grid with the mean log prior of the answers' tokens, and its differences to another one.

    log_priors: of each token.
    """

    log_priors: list[float]

    def figures(self, group: Sequence[Record]) -> dict[str, Any]:
        return super().figures(group) | {"log_prior": self.log_prior([sample["ids"] for sample in group])}

    def log_prior(self, texts: Sequence[Sequence[int]]) -> list[float | None] | None:
        """Mean log prior of a token, over all tokens of the texts."""
        return figure([sum(self.log_priors[token] for token in ids) for ids in texts], [len(ids) for ids in texts])

    def changes(self, after: "AnswerGrid") -> list[dict[str, Any]]:
        """One record for each setting in which both have answered a question."""
        rows = []
        for setting in self.grid():
            key = {name: setting[name] for name in ("decode_type", "steps")}
            mine, theirs = ([s for s in grid.samples if key.items() <= s.items()] for grid in (self, after))
            pairs = [(self.compared(a), self.compared(b)) for a, b in _pairs(mine, theirs, "ids")]
            if pairs:
                change = {name: figure([b[name] - a[name] for a, b in pairs]) for name in pairs[0][0]}
                rows.append(key | {"n": len(pairs)} | change)
        return rows

    def compared(self, sample: Record) -> dict[str, float]:
        """The figures of one answer whose change is reported."""
        text = self.tokenizer.decode(sample["ids"], skip_special_tokens=True)
        return {
            "well_formed": is_well_formed(text),
            "repeated_4grams": repeated_ngrams(sample["ids"]),
            "tokens": len(sample["ids"]),
        }


def _pairs(before: list[Record], after: list[Record], key: str) -> list[tuple[Record, Record]]:
    """The records that have `key` of the rows that both hold."""
    theirs = {record["index"]: record for record in after if key in record}
    return [(record, theirs[record["index"]]) for record in before if key in record and record["index"] in theirs]


def masses(samples: list[Record]) -> dict[str, Any] | None:
    """Mass on each kind of token by distance from the prompt; None where nothing was measured.

    `all` is the mass as it is, `text` its share of the mass that is not on EOS: a model that ends its answers there has
    little mass left for other tokens. Of each kind `at` each distance, and over the `ranges` that begin at `starts`.
    """
    rows = [dict(zip(KINDS, sample["masses"], strict=True)) for sample in samples if "masses" in sample]
    if not rows:
        return None
    starts = [edge for edge in EDGES if edge < len(rows[0]["eos"])]
    everything = [[1.0] * len(row["eos"]) for row in rows]
    text = [[1.0 - mass for mass in row["eos"]] for row in rows]
    result: dict[str, Any] = {"n": len(rows), "starts": starts}
    for name, kinds, wholes in (("all", KINDS, everything), ("text", TEXT_KINDS, text)):
        result[name] = {}
        for kind in kinds:
            parts = [row[kind] for row in rows]
            ranges = _curve(_over_ranges(parts, starts), _over_ranges(wholes, starts))
            result[name][kind] = {"at": _curve(parts, wholes), "ranges": ranges}
    return result


def _curve(parts: list[list[float]], wholes: list[list[float]]) -> dict[str, list[float | None]]:
    """Means and standard errors of columns over rows; the input is [rows, columns]."""
    columns = zip(zip(*parts, strict=True), zip(*wholes, strict=True), strict=True)
    figures = [figure(*column) or [None, None] for column in columns]
    mean, error = ([None if x is None else round(x, 5) for x in numbers] for numbers in zip(*figures, strict=True))
    return {"mean": mean, "error": error}


def _over_ranges(values: list[list[float]], starts: Sequence[int]) -> list[list[float]]:
    ends = [*starts[1:], len(values[0])]
    return [[sum(row[start:end]) for start, end in zip(starts, ends, strict=True)] for row in values]


def _as_json(result: dict[str, Any]) -> str:
    """Indented, with lists of numbers on one line."""
    numbers = re.compile(r"\[\s+(?:(?:[-\d.e]+|null),?\s+)+\]")
    return numbers.sub(lambda found: re.sub(r"\s+", " ", found[0]), json.dumps(result, indent=1)) + "\n"
