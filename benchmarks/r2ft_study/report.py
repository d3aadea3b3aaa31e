"""From the rows of the R2FT study to its figures, each with its standard error over rows, as JSON and Markdown.

Models of one name were trained alike but for the seed. Their figures are means over them; the standard error is that
over questions, and a third number the standard deviation from model to model.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.decoding_study.table import Measures, qualities_of, reference_figures
from benchmarks.decoding_study.window import mass_curves
from benchmarks.r2ft_study.measures import R2FTMeasures, Record
from benchmarks.r2ft_study.tables import to_markdown
from conv_dlm import DECODE_TYPES
from conv_dlm.evaluation.figures import Figure, figure
from conv_dlm.utils.files import write_json

LOG_P = ("chosen", "rejected")


@dataclass
class R2FTReport:
    """Figures of the study's models, and of the reference answers beside them.

    samples: of each name its records, each with the number of its `model`; with the first name the others are compared.
    measures: what they were measured with.
    answer_rules, score: what answers are judged by; see `Measures` of the decoding study.
    """

    samples: dict[str, list[Record]]
    measures: R2FTMeasures
    answer_rules: Sequence[str] = ()
    score: Callable[[int, str], dict[str, float]] | None = None

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

    @property
    def judge(self) -> Measures:
        """What answers are measured by."""
        measures = self.measures
        answers = [question.answer for question in measures.questions]
        rules, log_priors_V = self.answer_rules, measures.log_priors_V
        return Measures(measures.tokenizer, answers, rules, log_priors_V, score=self.score)

    def model(self, samples: list[Record]) -> dict[str, Any]:
        """All figures of one model, or of several of one name."""
        pairs = [sample | {"margin": sample["chosen"] - sample["rejected"]} for sample in samples if "chosen" in sample]
        log_p = {
            "n": _questions(pairs),
            **{key: over_models(pairs, [pair[key] for pair in pairs]) for key in (*LOG_P, "margin")},
            "accuracy": over_models(pairs, [pair["margin"] > 0 for pair in pairs]),
        }
        losses = [sample for sample in samples if "loss" in sample]
        nelbo = over_models(losses, [sample["loss"] for sample in losses], [sample["tokens"] for sample in losses])
        return {
            "models": len({sample["model"] for sample in samples}),
            "loss": {"n": _questions(losses), "nelbo": nelbo} if losses else None,
            "log_p": log_p,
            "masses": _curves(samples),
            "grid": self.grid(samples),
        }

    def reference(self) -> dict[str, Any]:
        """The same of the reference answers, as far as they have it."""
        references = [{"index": index} | record for index, record in enumerate(self.measures.reference_masses())]
        return {"n": len(references), "masses": _curves(references)} | reference_figures(self.judge)

    def grid(self, samples: list[Record]) -> list[dict[str, Any]]:
        """The answers' figures: one record for each setting, ordered by steps, then as in the table of decode types."""
        judge = self.judge
        return [
            self.setting(*key) | {"n": _questions(group)} | self.figures(group, judge)
            for key, group in _settings(samples).items()
        ]

    def figures(self, group: Sequence[Record], judge: Measures) -> dict[str, Figure]:
        """Of the answers in a setting, each with its error."""
        tokens, forwards = [len(sample["ids"]) for sample in group], [sample["forwards"] for sample in group]
        priors = [float(self.measures.log_priors_V[sample["ids"]].sum()) for sample in group]
        return {name: over_models(group, values) for name, values in qualities_of(group, judge).items()} | {
            "forwards": over_models(group, forwards),
            "tokens_per_forward": over_models(group, tokens, forwards),
            "tokens_per_second": over_models(group, tokens, [sample["seconds"] for sample in group]),
            "log_prior": over_models(group, priors, tokens),
        }

    def setting(self, steps: int, decode_type: str) -> dict[str, Any]:
        tokens_per_step = round(self.measures.canvas / steps, 2)
        return {"decode_type": decode_type, "steps": steps, "tokens_per_step": tokens_per_step}

    def changes(self, before: list[Record], after: list[Record]) -> dict[str, Any]:
        """Differences to `before` over the rows that both have: what is common to both drops out of the error."""
        losses = _changes(_with(before, "loss"), _with(after, "loss"), ["loss"])
        pairs = _changes(_with(before, "chosen"), _with(after, "chosen"), LOG_P)
        tokens = {record["index"]: record["tokens"] for record in _with(before, "loss")}
        return {
            "loss": over_models(losses, [one["loss"] for one in losses], [tokens[one["index"]] for one in losses]),
            "log_p": {key: over_models(pairs, [pair[key] for pair in pairs]) for key in LOG_P},
            "grid": self._changes_of_answers(before, after),
        }

    def _changes_of_answers(self, before: list[Record], after: list[Record]) -> list[dict[str, Any]]:
        judge, theirs = self.judge, _settings(before)
        rows = []
        for key, group in _settings(after).items():
            mine = _with_qualities(group, judge)
            names = [name for name in mine[0] if name not in ("index", "model")]
            changes = _changes(_with_qualities(theirs.get(key, []), judge), mine, names)
            if changes:
                figures = {name: over_models(changes, [one[name] for one in changes]) for name in names}
                rows.append(self.setting(*key) | {"n": _questions(changes)} | figures)
        return rows


def over_models(records: Sequence[Record], parts: Sequence[float], wholes: Sequence[float] | None = None) -> Figure:
    """A mean, or a ratio, with its error over questions and, of several models, the deviation from one to another.

    Args:
        records: which question (`index`) and `model` each value is of.
        parts, wholes: as for `figure`.
    """
    value = figure(parts, wholes, [record["index"] for record in records])
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for record, part, whole in zip(records, parts, wholes or [1.0] * len(parts), strict=True):
        sums[record["model"]][0] += part
        sums[record["model"]][1] += whole
    of_models = [part / whole for part, whole in sums.values() if whole]
    return value if value is None or len(of_models) < 2 else [*value, stdev(of_models)]


def _settings(samples: Iterable[Record]) -> dict[tuple[int, str], list[Record]]:
    """The answers of each (steps, decode type)."""
    groups: dict[tuple[int, str], list[Record]] = {}
    for sample in samples:
        if "decode_type" in sample:
            groups.setdefault((sample["steps"], sample["decode_type"]), []).append(sample)
    order = list(DECODE_TYPES)
    return dict(sorted(groups.items(), key=lambda item: (item[0][0], order.index(item[0][1]))))


def _with_qualities(group: Sequence[Record], judge: Measures) -> list[Record]:
    """What each answer is worth, by name, with whose it is."""
    if not group:
        return []
    qualities = qualities_of(group, judge)
    rows = zip(*qualities.values(), strict=True)
    whose = [{"index": sample["index"], "model": sample["model"]} for sample in group]
    return [one | dict(zip(qualities, row, strict=True)) for one, row in zip(whose, rows, strict=True)]


def _changes(before: Iterable[Record], after: Iterable[Record], names: Iterable[str]) -> list[Record]:
    """Of each record after, its values less the mean of those before of the same question, if there are some."""
    of_question: dict[int, list[Record]] = defaultdict(list)
    for record in before:
        of_question[record["index"]].append(record)
    return [
        {"index": record["index"], "model": record["model"]}
        | {name: record[name] - fmean(other[name] for other in of_question[record["index"]]) for name in names}
        for record in after
        if record["index"] in of_question
    ]


def _with(records: Iterable[Record], key: str) -> list[Record]:
    return [record for record in records if key in record]


def _questions(records: Iterable[Record]) -> int:
    return len({record["index"] for record in records})


def _curves(records: Iterable[Record]) -> dict[str, Any] | None:
    """Mass by distance from the prompt, of a question's models the mean; None where nothing was measured."""
    of_question: dict[int, list[Any]] = defaultdict(list)
    for record in _with(records, "masses"):
        of_question[record["index"]].append(record["masses"])
    return mass_curves([_mean(masses) for masses in of_question.values()])


def _mean(masses: list[Any]) -> Any:
    """Of several [G, K]."""
    return [[fmean(some) for some in zip(*kind, strict=True)] for kind in zip(*masses, strict=True)]
