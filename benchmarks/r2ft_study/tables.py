"""The tables of an R2FT study's result file, in Markdown."""

from collections.abc import Sequence
from typing import Any

from conv_dlm import DECODE_TYPES

Figure = list[float | None] | None  # value and standard error
Row = list[str]

# figure -> (heading, factor, format)
LOG_P = {
    "chosen": ("log p chosen", 1, ".3f"),
    "rejected": ("log p rejected", 1, ".3f"),
    "margin": ("margin", 1, ".3f"),
    "accuracy": ("chosen more likely, %", 100, ".1f"),
}
MASSES = {
    ("all", "eos"): "EOS, %",
    ("all", "high_prior"): "high-prior, %",
    ("all", "repetition"): "repetition, %",
    ("text", "high_prior"): "of text: high-prior, %",
    ("text", "repetition"): "of text: repetition, %",
    ("text", "other"): "of text: neither, %",
}
CHANGES = {
    "well_formed": ("ends in `#### n`, %", 100, ".1f"),
    "repeated_4grams": ("repeated 4-grams, %", 100, ".1f"),
    "tokens": ("tokens", 1, ".1f"),
}
ANSWERS = CHANGES | {
    "log_prior": ("mean log prior", 1, ".2f"),
    "forwards": ("forwards", 1, ".1f"),
    "accuracy": ("right answers, %", 100, ".1f"),
}


def to_markdown(result: dict[str, Any]) -> str:
    """All tables of a result; ± is one standard error over rows, of changes over differences row by row."""
    tables = (log_p_table, masses_table, answers_table, changes_table)
    return "\n\n".join(filter(None, (table(result) for table in tables))) + "\n"


def log_p_table(result: dict[str, Any]) -> str:
    """Held-out loss and log-probabilities in nats a token, then their changes."""
    rows, first = [], next(iter(result["models"]))
    for name, model in result["models"].items():
        log_p, loss = model["log_p"], model["loss"] or {"nelbo": None}
        figures = [_show(log_p[key], factor, form) for key, (_, factor, form) in LOG_P.items()]
        rows.append([name, _show(loss["nelbo"]), *figures, str(log_p["n"])])
    for name, change in result["changes"].items():
        figures = [_show(change["log_p"].get(key), 1, "+.3f") for key in LOG_P]
        rows.append([f"{name} − {first}", _show(change["loss"], 1, "+.3f"), *figures, ""])
    return _table(["", "held-out loss", *(heading for heading, _, _ in LOG_P.values()), "rows"], rows)


def masses_table(result: dict[str, Any]) -> str:
    """Probability mass on kinds of tokens in ranges of distances from the prompt, and the reference answers' tokens."""
    measured = {name: model["masses"] for name, model in result["models"].items() if model["masses"]}
    measured["reference answers"] = result["reference"]["masses"]
    starts, rows = measured["reference answers"]["starts"], []
    for place, (start, next_start) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
        distance = f"from {start}" if next_start is None else "–".join(map(str, sorted({start, next_start - 1})))
        for name, curves in measured.items():
            ranges = [curves[whole][kind]["ranges"] for whole, kind in MASSES]
            figures = [_show([part["mean"][place], part["error"][place]], 100, ".1f") for part in ranges]
            rows.append([distance, name, *figures, str(curves["n"])])
    return _table(["distance", "", *MASSES.values(), "rows"], rows, names=2)


def answers_table(result: dict[str, Any]) -> str:
    """Answers by decode type, steps and model, and the reference answers; empty if nothing was answered."""
    settings = [(setting, name) for name, model in result["models"].items() for setting in model["grid"]]
    if not settings:
        return ""
    order = list(DECODE_TYPES)
    settings.sort(key=lambda pair: (pair[0]["steps"], order.index(pair[0]["decode_type"])))  # stable: models in order
    rows = []
    for setting, name in [*settings, (result["reference"], "reference answers")]:
        figures = [_show(setting.get(key), factor, form) for key, (_, factor, form) in ANSWERS.items()]
        rows.append([_setting(setting), name, *figures, str(setting["n"])])
    return _table(["decode type", "", *(heading for heading, _, _ in ANSWERS.values()), "n"], rows, names=2)


def changes_table(result: dict[str, Any]) -> str:
    """Changes of the answers against the first model on the same questions; empty if nothing was answered."""
    rows, first = [], next(iter(result["models"]))
    for name, change in result["changes"].items():
        for setting in change["grid"]:
            figures = [_show(setting[key], factor, "+" + form) for key, (_, factor, form) in CHANGES.items()]
            rows.append([_setting(setting), f"{name} − {first}", *figures, str(setting["n"])])
    headings = [heading for heading, _, _ in CHANGES.values()]
    return _table(["decode type", "change", *headings, "n"], rows, names=2) if rows else ""


def _setting(setting: dict[str, Any]) -> str:
    return f"`{setting['decode_type']}`, {setting['steps']} steps" if "steps" in setting else ""


def _show(figure: Figure, factor: float = 1, form: str = ".3f") -> str:
    """Value ± error; a format that asks for a sign gives it to the value alone."""
    numbers = [factor * number for number in figure or () if number is not None]
    return " ± ".join(map(format, numbers, (form, form.removeprefix("+")))) or "–"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    """A Markdown table whose first columns are `names`, the others numbers."""
    rule = ["-" if column < names else "-:" for column in range(len(headings))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (headings, rule, *rows))
