"""AlpacaEval: answers in the form that its judge takes, and the judge, a paid model behind an API key.

The win rate compares two files of answers: `model_outputs.json` of two runs, for example of a diffusion LM and of an
autoregressive model of the same size and data, as in arXiv 2509.15188. The judging is `alpaca_eval`'s own.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from conv_dlm.evaluation.evaluate import Task
from conv_dlm.evaluation.tasks.hub import rows_of_hub
from conv_dlm.utils.files import Row, first_rows, read_rows, text_in

PROMPTS = "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval.json"
OUTPUTS_FILE = "model_outputs.json"
JUDGEMENT_FOLDER = "judgement"
KEYS = ("OPENAI_API_KEY", "OPENAI_CLIENT_CONFIG_PATH", "ANTHROPIC_API_KEY")


def load(
    name: str, path: Path | None = None, questions: int | None = None, skip_malformed: bool = False
) -> tuple[Task, list[str]]:
    """The 805 instructions of AlpacaEval, or a file with their column `instruction`.

    Args:
        name (`str`): the model's on the leaderboard, `generator` in the file.
        path (`Path`, *optional*): a JSON list or JSON lines; from the Hub if `None`.
        questions (`int`, *optional*): the first so many rows; all if `None`.

    Returns:
        The task, and what was wrong with lines that were left out.

    Raises:
        ValueError: malformed rows, or fewer than asked for.
    """
    wrong: list[str] = []
    if path is None:
        rows = rows_of_hub("AlpacaEval", "json", data_files=PROMPTS, split="train")
    else:
        rows, wrong = read_rows(path, skip_malformed, lambda row: text_in(row, "instruction"))
    rows = first_rows(rows, questions)

    def files(rows: list[Row], texts: list[list[str]]) -> dict[str, str]:
        outputs = [
            {
                "dataset": row.get("dataset", "own"),
                "instruction": row["instruction"],
                "output": its[-1],
                "generator": name,
            }
            for row, its in zip(rows, texts, strict=True)
        ]
        return {OUTPUTS_FILE: json.dumps(outputs, indent=1, ensure_ascii=False) + "\n"}

    return Task("alpaca_eval", rows, [[row["instruction"]] for row in rows], files=files), wrong


def check_judge() -> None:
    """Refuse before hours of generation what the judge would refuse after.

    Raises:
        ValueError: the judge isn't installed, or there is no API key.
    """
    if importlib.util.find_spec("alpaca_eval") is None:
        raise ValueError("The judge needs its package: pip install alpaca-eval. Without `--judge` answers are written.")
    if not any(os.environ.get(key) for key in KEYS):
        raise ValueError(
            f"The judge needs an API key: set one of {', '.join(KEYS)}. Without `--judge` answers are written, which "
            "`alpaca_eval` can judge later."
        )


def judge(folder: Path, annotator: str, reference: Path | None) -> None:
    """Have `alpaca_eval` compare the folder's outputs with those of another run, or with its own reference.

    Args:
        folder (`Path`): of a run; the judgement goes below it.
        annotator (`str`): a configuration of AlpacaEval, as `weighted_alpaca_eval_gpt4_turbo`.
        reference (`Path`, *optional*): a folder of a run, or a file of outputs.

    Raises:
        ValueError: there is no such reference, or the judge failed.
    """
    words = ["--model_outputs", str(folder / OUTPUTS_FILE), "--annotators_config", annotator]
    words += ["--output_path", str(folder / JUDGEMENT_FOLDER)]
    if reference is not None:
        words += ["--reference_outputs", str(reference_outputs(reference))]
    process = subprocess.run([sys.executable, "-m", "alpaca_eval.main", "evaluate", *words])
    if process.returncode != 0:
        raise ValueError(f"`alpaca_eval` failed with exit code {process.returncode}; the answers are in {folder}.")


def reference_outputs(reference: Path) -> Path:
    """The file of outputs that is meant. Raises ValueError if there is none."""
    file = reference / OUTPUTS_FILE if reference.is_dir() else reference
    if not file.is_file():
        raise ValueError(f"`reference`={str(reference)!r}: there is no {file}; make it by `conv-dlm eval alpaca_eval`.")
    return file
