"""The tasks: what they ask, how they score, which files they leave, and what they refuse before anything is asked."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conv_dlm.evaluation.gsm8k import ANSWER_RULES
from conv_dlm.evaluation.tasks import alpaca_eval, gsm8k, prompts


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    rows = [{"question": "6 * 3?", "answer": "6*3=<<6*3=18>>18\n#### 18"}, {"question": "1 + 1?", "answer": "#### 2"}]
    return write(tmp_path / "sums.jsonl", *rows)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("It is 18.\n#### 18", {"strict", "flexible", "number", "paper"}),
        ("It is $18.00.", {"number"}),
        ("#### 18\nor 19", {"strict"}),
        ("18", {"flexible", "number", "paper"}),
        ("", set()),
    ],
)
def test_gsm8k_is_judged_by_every_rule(sums: Path, text: str, right: set[str]) -> None:
    task, wrong = gsm8k.load(sums, rules=list(ANSWER_RULES))
    assert (task.name, task.conversations, wrong) == ("gsm8k", [["6 * 3?"], ["1 + 1?"]], [])
    scores = task.score(task.rows[0], [text])
    assert {name for name in ANSWER_RULES if scores[f"accuracy_{name}"]} == right
    assert scores["well_formed"] == float(text.endswith("#### 18")) and len(scores) == 5


def test_gsm8k_by_default(sums: Path) -> None:
    task, _ = gsm8k.load(sums, questions=1)
    assert len(task.rows) == 1
    assert list(task.score(task.rows[0], ["#### 18"])) == ["accuracy_strict", "accuracy_flexible", "well_formed"]


def test_gsm8k_refuses_what_a_rule_can_not_read(tmp_path: Path) -> None:
    """Before the model is asked, rather than when its answers are scored."""
    rows = [{"question": "?", "answer": "#### 2"}, {"question": "?", "answer": "two"}, {"question": "?"}]
    path = write(tmp_path / "rows.jsonl", *rows)
    with pytest.raises(ValueError, match=r"line 2: `reference`='two' holds no number"):
        gsm8k.load(path, rules=["number"])
    with pytest.raises(ValueError, match=r"line 3: no text in field 'answer'"):
        gsm8k.load(path)
    task, wrong = gsm8k.load(path, rules=["number"], skip_malformed=True)
    assert len(task.rows) == 1 and len(wrong) == 2
    with pytest.raises(ValueError, match=r"`answer_rules`: 'lenient' is none of \['flexible', 'number', 'paper'"):
        gsm8k.load(path, rules=["strict", "lenient"])


def test_alpaca_eval_leaves_what_its_judge_takes(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text(json.dumps([{"instruction": "Say ü", "dataset": "koala", "output": "ü"}, {"instruction": "Hi"}]))
    task, _ = alpaca_eval.load("my model", path)
    assert task.conversations == [["Say ü"], ["Hi"]] and task.score(task.rows[0], ["ü"]) == {}
    (name, text), = task.files(task.rows, [["ü!"], ["Hello"]]).items()  # fmt: skip
    assert name == "model_outputs.json"
    assert json.loads(text) == [
        {"dataset": "koala", "instruction": "Say ü", "output": "ü!", "generator": "my model"},
        {"dataset": "own", "instruction": "Hi", "output": "Hello", "generator": "my model"},
    ]


@pytest.mark.parametrize("module", [gsm8k, alpaca_eval])
def test_without_a_file_rows_come_from_the_hub(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    row = {"question": "?", "answer": "#### 2", "instruction": "Hi"}
    asked: list[Any] = []

    def load_dataset(*names: str, **options: Any) -> list[dict[str, str]]:
        asked.append((*names, *options.values()))
        return [row, row]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    words = ("name",) if module is alpaca_eval else ()
    task, wrong = module.load(*words, questions=1)
    assert (task.rows, wrong) == ([row], [])
    expected = {
        "gsm8k": ("openai/gsm8k", "main", "test"),
        "alpaca_eval": ("json", "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval.json", "train"),
    }
    assert asked == [expected[task.name]]


def test_the_hub_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*names: str, **options: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(ValueError, match=r"GSM8K can't be had from the Hub; name a file, `--data`. .*: no network"):
        gsm8k.load()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="AlpacaEval comes from the Hub by `pip install datasets`; or name a file"):
        alpaca_eval.load("name")


def test_prompts_of_one_turn_or_several(tmp_path: Path) -> None:
    """The latter as MT-Bench has them."""
    rows = [{"prompt": "one"}, {"question_id": 81, "turns": ["two", "three"]}]
    task, _ = prompts.load(write(tmp_path / "rows.jsonl", *rows))
    assert task.conversations == [["one"], ["two", "three"]] and task.rows == rows
    task, _ = prompts.load(write(tmp_path / "rows.jsonl", {"text": "one"}), field="text")
    assert task.conversations == [["one"]] and task.files(task.rows, [["x"]]) == {}


@pytest.mark.parametrize("turns", ["one", [], [1], {"a": 1}])
def test_turns_are_texts(tmp_path: Path, turns: Any) -> None:
    path = write(tmp_path / "rows.jsonl", {"prompt": "one"}, {"turns": turns})
    with pytest.raises(ValueError, match=r"line 2: `turns` must be a list of texts, one at least"):
        prompts.load(path)
    task, wrong = prompts.load(path, skip_malformed=True)
    assert len(task.rows) == len(wrong) == 1


def test_a_judge_without_package_or_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in alpaca_eval.KEYS:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "alpaca_eval").exists()])
    with pytest.raises(ValueError, match="The judge needs its package: pip install alpaca-eval"):
        alpaca_eval.check_judge()
    (tmp_path / "alpaca_eval").mkdir()
    (tmp_path / "alpaca_eval" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="The judge needs an API key: set one of OPENAI_API_KEY, "):
        alpaca_eval.check_judge()
    monkeypatch.setenv("OPENAI_API_KEY", "of a test")
    alpaca_eval.check_judge()


def test_a_reference_is_a_run_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`reference`=.*: there is no .*model_outputs.json; make it by"):
        alpaca_eval.reference_outputs(tmp_path)
    (tmp_path / "model_outputs.json").touch()
    assert alpaca_eval.reference_outputs(tmp_path) == tmp_path / "model_outputs.json"
    assert alpaca_eval.reference_outputs(tmp_path / "model_outputs.json") == tmp_path / "model_outputs.json"
