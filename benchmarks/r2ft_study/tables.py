"""The tables of an R2FT study's result file, in Markdown."""

from collections.abc import Sequence
from typing import Any

from benchmarks.decoding_study.table import COLUMNS, markdown_table
from conv_dlm import DECODE_TYPES
from conv_dlm.evaluation.figures import Figure

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
QUALITIES = (
    *(name for name in COLUMNS if name.startswith("accuracy")),
    *("sound", "form", "equations", "steps_right", "repeated_4grams", "loops", "tokens"),
)


def to_markdown(result: dict[str, Any]) -> str:
    """All tables of a result; ± is one standard error over rows, of changes over differences row by row.

    In brackets, of several models of one name, is the standard deviation from one to another.
    """
    tables = (log_p_table, masses_table, answers_table, changes_table)
    return "\n\n".join(filter(None, (table(result) for table in tables))) + "\n"


def log_p_table(result: dict[str, Any]) -> str:
    """Held-out loss and log-probabilities in nats a token, then their changes."""
    rows, first = [], next(iter(result["models"]))
    for name, model in result["models"].items():
        log_p, loss = model["log_p"], model["loss"] or {"nelbo": None}
        figures = [_show(log_p[key], factor, form) for key, (_, factor, form) in LOG_P.items()]
        rows.append([_name(name, result), _show(loss["nelbo"]), *figures, str(log_p["n"])])
    for name, change in result["changes"].items():
        figures = [_show(change["log_p"].get(key), 1, "+.3f") for key in LOG_P]
        rows.append([f"{_name(name, result)} − {first}", _show(change["loss"], 1, "+.3f"), *figures, ""])
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
            rows.append([distance, _name(name, result), *figures, str(curves["n"])])
    return _table(["distance", "", *MASSES.values(), "rows"], rows, names=2)


def answers_table(result: dict[str, Any]) -> str:
    """Answers by tokens a step, decode type and model, and the reference answers; empty if nothing was answered."""
    settings = [(setting, name) for name, model in result["models"].items() for setting in model["grid"]]
    if not settings:
        return ""
    order = list(DECODE_TYPES)
    settings.sort(key=lambda pair: (-pair[0]["steps"], order.index(pair[0]["decode_type"])))  # stable: models in order
    names = _measured([setting for setting, _ in settings], "log_prior", "forwards")
    rows = []
    for setting, name in [*settings, (result["reference"], "reference answers")]:
        rows.append([_setting(setting), _name(name, result), *_cells(setting, names, ""), str(setting["n"])])
    return _table(["decode type", "", *(COLUMNS[name][0] for name in names), "n"], rows, names=2)


def changes_table(result: dict[str, Any]) -> str:
    """Changes of the answers against the first model on the same questions; empty if nothing was answered."""
    first = next(iter(result["models"]))
    settings = [(setting, name) for name, change in result["changes"].items() for setting in change["grid"]]
    settings.sort(key=lambda pair: -pair[0]["steps"])
    names = _measured([setting for setting, _ in settings])
    rows = [
        [_setting(setting), f"{_name(name, result)} − {first}", *_cells(setting, names, "+"), str(setting["n"])]
        for setting, name in settings
    ]
    return _table(["decode type", "change", *(COLUMNS[name][0] for name in names), "n"], rows, names=2) if rows else ""


def _measured(settings: Sequence[dict[str, Any]], *others: str) -> list[str]:
    return [name for name in (*QUALITIES, *others) if any(setting.get(name) for setting in settings)]


def _cells(setting: dict[str, Any], names: Sequence[str], sign: str) -> list[str]:
    return [_show(setting.get(name), COLUMNS[name][1], sign + COLUMNS[name][2]) for name in names]


def _name(name: str, result: dict[str, Any]) -> str:
    count = result["models"].get(name, {"models": 1})["models"]
    return f"{name} ({count} models)" if count > 1 else name


def _setting(setting: dict[str, Any]) -> str:
    return f"`{setting['decode_type']}`, {setting['tokens_per_step']:g} tokens a step" if "steps" in setting else ""


def _show(figure: Figure, factor: float = 1, form: str = ".3f") -> str:
    """Value ± error (deviation of models); a format that asks for a sign gives it to the value alone."""
    value, error, deviation = (*(figure or ()), None, None, None)[:3]
    unsigned = form.removeprefix("+")
    text = "–" if value is None else format(factor * value, form)
    text += "" if error is None else f" ± {factor * error:{unsigned}}"
    return text + ("" if deviation is None else f" ({factor * deviation:{unsigned}})")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    return markdown_table(headings, rows, names).removesuffix("\n")
