"""From the samples of the GSM8K grid to its table: figures with standard errors, as JSON and Markdown."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conv_dlm import DECODE_TYPES
from conv_dlm.evaluation import (
    count_annotations,
    gsm8k_correct,
    is_well_formed,
    ratio_with_error,
    repeated_ngrams,
)

# figure -> (heading, factor, format)
COLUMNS = {
    "well_formed": ("ends in `#### n`, %", 100, ".0f"),
    "annotations_right": ("`<<a*b=c>>` right, %", 100, ".0f"),
    "repeated_4grams": ("repeated 4-grams, %", 100, ".1f"),
    "accuracy": ("right answers, %", 100, ".0f"),
    "tokens": ("tokens", 1, ".0f"),
    "forwards": ("forwards", 1, ".1f"),
    "tokens_per_forward": ("tokens / forward", 1, ".2f"),
    "tokens_per_second": ("tokens / s", 1, ".1f"),
}


@dataclass
class GridReport:
    """Figures of the samples in a `SampleFile`.

    samples: records of answers (decode_type, steps, index, ids, forwards, seconds) and of losses (index, loss, tokens).
    references: the right answer of each question, by its index.
    tokenizer: turns ids into text.
    """

    samples: list[dict[str, Any]]
    references: dict[int, str]
    tokenizer: Any

    def write(self, path: Path, run: dict[str, Any]) -> None:
        """Write the figures and what is known of the `run` to `path`, and the same for people beside it as `.md`."""
        result = run | {"held_out_loss": self.held_out_loss(), "grid": self.grid()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(to_markdown(result), encoding="utf-8")

    def held_out_loss(self) -> dict[str, Any] | None:
        """The bound over all answers, in nats a token; None where it was not measured."""
        losses = [sample for sample in self.samples if "loss" in sample]
        if not losses:
            return None
        parts, wholes = [sample["loss"] for sample in losses], [sample["tokens"] for sample in losses]
        return {"n": len(losses), "nelbo": figure(parts, wholes)}

    def grid(self) -> list[dict[str, Any]]:
        """One record for each setting, ordered by steps, then as in the table of decode types."""
        groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for sample in self.samples:
            if "decode_type" in sample:
                groups.setdefault((sample["decode_type"], sample["steps"]), []).append(sample)
        order = list(DECODE_TYPES)
        return [
            {"decode_type": decode_type, "steps": steps, "n": len(group)} | self.figures(group)
            for (decode_type, steps), group in sorted(groups.items(), key=lambda s: (s[0][1], order.index(s[0][0])))
        ]

    def figures(self, group: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Each figure of `COLUMNS` as [value, standard error], and the number of annotations in the answers."""
        texts = [self.tokenizer.decode(sample["ids"], skip_special_tokens=True) for sample in group]
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
        }


def figure(parts: Sequence[float], wholes: Sequence[float] | None = None) -> list[float | None] | None:
    """[mean or ratio, standard error]; JSON's null for an error that one sample can't give, and for 0 / 0."""
    wholes = [1] * len(parts) if wholes is None else wholes
    if not sum(wholes):
        return None
    return [None if math.isnan(number) else number for number in ratio_with_error(parts, wholes)]


def to_markdown(result: dict[str, Any]) -> str:
    """The table of a result file."""
    lines = []
    if result["held_out_loss"]:
        nelbo = " ± ".join(f"{number:.3f}" for number in result["held_out_loss"]["nelbo"] if number is not None)
        lines += [f"Held-out loss: {nelbo} nats a token ({result['held_out_loss']['n']} answers).", ""]
    headings = ["decode type", "steps", "n", *(heading for heading, _, _ in COLUMNS.values())]
    lines += ["| " + " | ".join(headings) + " |", "|-|" + "-:|" * (len(headings) - 1)]
    for row in result["grid"]:
        cells = [f"`{row['decode_type']}`", str(row["steps"]), str(row["n"])]
        for name, (_, factor, form) in COLUMNS.items():
            numbers = [number for number in row[name] or () if number is not None]
            cells.append(" ± ".join(format(factor * number, form) for number in numbers) or "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
