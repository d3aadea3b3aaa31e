"""Data at the door: all that is wrong with it, and what it looks like in tokens, in one report.

conv-dlm data check train.jsonl --held-out test.jsonl --model GSAI-ML/LLaDA-8B-Instruct --max-length 1024
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainers.mdlm_config import MDLMTrainingConfig
from trainers.reading import read_row
from trainers.rows import RowEnds, has_calls, response_text
from trainers.tokenizing import Tokenizing

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
FORMATS = ("input_ids", "messages", "conversations", "completion")


@dataclass
class Report:
    """What a file holds.

    Attributes:
        rows (`int`): rows looked at.
        problems (`list[tuple[int, str]]`): row and sentence, of rows that can't be trained on.
        roles (`Counter`): messages of each role, in the trainers' names.
        lengths (`list[int]`): tokens of each sound row, the end included, before it is cut.
        answers (`list[int]`): tokens of its answer.
        cut (`int`): rows longer than `max_length`.
        endless (`int`): rows whose answer is trained without an end.
        duplicates (`int`): rows that say the same as an earlier one.
        leaks (`int`): held-out rows whose prompt is a prompt of the training rows, too.
    """

    rows: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    roles: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    cut: int = 0
    endless: int = 0
    duplicates: int = 0
    leaks: int = 0

    def lines(self, shown: int = 10) -> list[str]:
        """The report as text."""
        sound = max(len(self.lengths), 1)
        text = [f"rows: {self.rows}, of which {len(self.problems)} can't be trained on"]
        text += [f"  row {index}: {sentence}" for index, sentence in self.problems[:shown]]
        if len(self.problems) > shown:
            text.append(f"  ... and {len(self.problems) - shown} more")
        if self.roles:
            text.append("roles: " + ", ".join(f"{role} {count}" for role, count in sorted(self.roles.items())))
        for name, lengths in (("tokens of a row", self.lengths), ("tokens of an answer", self.answers)):
            if lengths:
                shares = (f"{share:.0%} {quantile(lengths, share)}" for share in QUANTILES)
                text.append(f"{name}: " + ", ".join(shares))
        text.append(f"cut by max_length: {self.cut} ({self.cut / sound:.1%})")
        text.append(f"answers trained without an end: {self.endless} ({self.endless / sound:.1%})")
        text.append(f"duplicates: {self.duplicates} ({self.duplicates / max(self.rows, 1):.1%})")
        text.append(f"held-out prompts that are trained on: {self.leaks}")
        return text


def quantile(values: Sequence[int], share: float) -> int:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def check_rows(
    rows: Iterable[dict[str, Any]],
    tokenizer: Any,
    limits: dict[str, int | None],
    *,
    max_length: int | None = None,
    text_column: str = "text",
    held_out: Iterable[dict[str, Any]] = (),
) -> Report:
    """Look at all rows, as the trainers would read them.

    Args:
        rows (iterable of `dict`): of the file.
        tokenizer: of the model.
        limits (`dict`): what the model can take; see [`trainers.reading.check_tokens`].
        max_length (`int`, *optional*): to which rows are cut.
        text_column (`str`): column of plain texts.
        held_out (iterable of `dict`, *optional*): rows of the evaluation set.
    """
    report, seen, prompts = Report(), set(), set()
    ends = RowEnds.of(MDLMTrainingConfig("check", max_length=None, use_cpu=True, bf16=False), tokenizer, pads=False)
    tokenizing = Tokenizing(tokenizer, text_column, True, False, None, None, ends, None, "train", limits)
    if max_length is not None:  # longer rows are cut, and so no problem
        tokenizing.limits["context"] = None
    for index, row in enumerate(rows):
        report.rows += 1
        try:
            known = _known(row, text_column)
            read = read_row(known, text_column)
            _has_answer(read, text_column)
            out = tokenizing(known, index)
        except ValueError as error:
            report.problems.append((index, str(error).split(" data: ", 1)[-1].rstrip(".")))
            continue
        for message in (*_list(read.get("messages")), *_list(read.get("prompt")), *_list(read.get("completion"))):
            report.roles[message["role"]] += 1
        ids, labels = out["input_ids"], out["labels"]
        report.lengths.append(len(ids))
        report.answers.append(sum(label != -100 for label in labels))
        cut = max_length is not None and len(ids) > max_length
        report.cut += cut
        report.endless += cut or labels[-1] not in ends.ends
        digest = _digest(ids)
        report.duplicates += digest in seen
        seen.add(digest)
        prompts.add(_prompt(read))
    for row in held_out:
        try:
            report.leaks += _prompt(read_row(_known(row, text_column), text_column)) in prompts
        except ValueError:
            continue
    return report


def _known(row: dict[str, Any], text_column: str) -> dict[str, Any]:
    if not any(name in row for name in (*FORMATS, text_column)):
        raise ValueError(f"no response: the columns are {', '.join(map(str, row))}")
    return row


def _has_answer(read: dict[str, Any], text_column: str) -> None:
    name = next((name for name in ("input_ids", "messages", "completion", text_column) if name in read), "")
    if name != "input_ids" and not response_text(read[name]).strip() and not has_calls(read[name]):
        raise ValueError(f"`{name}` is empty")


def _list(value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else []


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=12).digest()


def _prompt(read: dict[str, Any]) -> bytes:
    """What is asked, whatever is answered; a text as a whole."""
    if "prompt" in read:
        return _digest(read["prompt"])
    if "messages" in read:
        return _digest(read["messages"][:-1])
    return _digest({name: value for name, value in read.items() if isinstance(value, str | list)})
