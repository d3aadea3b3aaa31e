"""From the rows of the R2FT study to its figures, each with its standard error over rows, as JSON and Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.decoding_study.window import mass_curves
from benchmarks.r2ft_study.measures import R2FTMeasures, Record
from benchmarks.r2ft_study.tables import to_markdown
from conv_dlm import DECODE_TYPES
from conv_dlm.answering.answers import text_of
from conv_dlm.evaluation import count_annotations, gsm8k_correct, is_well_formed, repeated_ngrams
from conv_dlm.evaluation.figures import figure
from conv_dlm.utils.files import write_json


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
        write_json(path, result)
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
        return {"loss": grid.held_out_loss(), "log_p": log_p, "masses": _curves(samples), "grid": grid.grid()}

    def reference(self) -> dict[str, Any]:
        """The same of the reference answers, as far as they have it."""
        ids = [self.measures.encode(question.answer) for question in self.measures.questions]
        grid = self._grid([])
        return {
            "n": len(ids),
            "masses": _curves(self.measures.reference_masses()),
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
class AnswerGrid:
    """Figures of the answers, for each decode type and number of steps, and their differences to another grid.

    samples: records of answers (decode_type, steps, index, ids, forwards, seconds) and of losses (index, loss, tokens).
    references: the right answer of each question, by its index.
    tokenizer: turns ids into text.
    log_priors: of each token.
    """

    samples: list[Record]
    references: dict[int, str]
    tokenizer: Any
    log_priors: list[float]

    def held_out_loss(self) -> dict[str, Any] | None:
        """The bound over all answers, in nats a token; None where it was not measured."""
        losses = [sample for sample in self.samples if "loss" in sample]
        if not losses:
            return None
        parts, wholes = [sample["loss"] for sample in losses], [sample["tokens"] for sample in losses]
        return {"n": len(losses), "nelbo": figure(parts, wholes)}

    def grid(self) -> list[dict[str, Any]]:
        """One record for each setting, ordered by steps, then as in the table of decode types."""
        groups: dict[tuple[str, int], list[Record]] = {}
        for sample in self.samples:
            if "decode_type" in sample:
                groups.setdefault((sample["decode_type"], sample["steps"]), []).append(sample)
        order = list(DECODE_TYPES)
        return [
            {"decode_type": decode_type, "steps": steps, "n": len(group)} | self.figures(group)
            for (decode_type, steps), group in sorted(groups.items(), key=lambda s: (s[0][1], order.index(s[0][0])))
        ]

    def figures(self, group: Sequence[Record]) -> dict[str, Any]:
        """Each figure as [value, standard error], and the number of annotations in the answers."""
        texts = [text_of(self.tokenizer, sample["ids"]) for sample in group]
        references = [self.references[sample["index"]] for sample in group]
        tokens = [len(sample["ids"]) for sample in group]
        forwards = [sample["forwards"] for sample in group]
        annotations_right, annotations = zip(*map(count_annotations, texts), strict=True)
        return {
            "well_formed": figure([is_well_formed(text) for text in texts]),
            "annotations_right": figure(annotations_right, annotations),
            "annotations": sum(annotations),
            "repeated_4grams": figure([repeated_ngrams(sample["ids"]) for sample in group]),
            "accuracy": figure([gsm8k_correct(*pair) for pair in zip(texts, references, strict=True)]),
            "tokens": figure(tokens),
            "forwards": figure(forwards),
            "tokens_per_forward": figure(tokens, forwards),
            "tokens_per_second": figure(tokens, [sample["seconds"] for sample in group]),
            "log_prior": self.log_prior([sample["ids"] for sample in group]),
        }

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
        text = text_of(self.tokenizer, sample["ids"])
        return {
            "well_formed": is_well_formed(text),
            "repeated_4grams": repeated_ngrams(sample["ids"]),
            "tokens": len(sample["ids"]),
        }


def _curves(records: list[Record]) -> dict[str, Any] | None:
    """Mass by distance from the prompt; None where nothing was measured."""
    return mass_curves([record["masses"] for record in records if "masses" in record])


def _pairs(before: list[Record], after: list[Record], key: str) -> list[tuple[Record, Record]]:
    """The records that have `key` of the rows that both hold."""
    theirs = {record["index"]: record for record in after if key in record}
    return [(record, theirs[record["index"]]) for record in before if key in record and record["index"] in theirs]
