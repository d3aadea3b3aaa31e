"""`conv-dlm eval alpaca_eval`: outputs for a judge, and the judge."""

import json
import sys
from pathlib import Path

import pytest

SHORT = ("--steps", 3, "--max-new-tokens", 8)
# Records its words, and fails on request, as alpaca_eval may
FAKE_JUDGE = """import json, os, sys
json.dump(sys.argv[1:], open(os.environ["JUDGED"], "w"))
sys.exit(int(os.environ.get("FAILS", 0)))
"""


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for `alpaca_eval` with a key; its words are in the file."""
    package = tmp_path / "packages" / "alpaca_eval"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text(FAKE_JUDGE)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("OPENAI_API_KEY", "of a test")
    monkeypatch.setenv("JUDGED", str(tmp_path / "judged.json"))
    return tmp_path / "judged.json"


@pytest.fixture
def instructions(tmp_path: Path) -> Path:
    path = tmp_path / "set.json"
    path.write_text(json.dumps([{"instruction": "Say ü", "dataset": "koala"}, {"instruction": "Hi"}]))
    return path


def test_outputs_for_a_judge(run, tiny_checkpoint: Path, instructions: Path, out: Path) -> None:
    words = ("eval", "alpaca_eval", "--data", instructions, "--model", tiny_checkpoint, *SHORT, "--output", out)
    assert run(*words).code == 0
    samples = map(json.loads, (out / "samples.jsonl").read_text(encoding="utf-8").splitlines())
    texts = [sample["turns"][-1]["text"] for sample in samples]
    outputs = json.loads((out / "model_outputs.json").read_text())
    assert outputs == [
        {"dataset": "koala", "instruction": "Say ü", "output": texts[0], "generator": "out"},
        {"dataset": "own", "instruction": "Hi", "output": texts[1], "generator": "out"},
    ]
    assert run(*words, "--name", "mine").code == 0  # the answers are the same
    assert {output["generator"] for output in json.loads((out / "model_outputs.json").read_text())} == {"mine"}


def test_the_judge_is_called(run, tiny_checkpoint, causal_checkpoint, instructions, out, tmp_path, judge) -> None:
    words = ("eval", "alpaca_eval", "--data", instructions, "--max-new-tokens", 8)
    reference = tmp_path / "reference"
    assert run(*words, "--model", causal_checkpoint, "--autoregressive", "--output", reference).code == 0
    assert not judge.exists()
    words = (*words, "--model", tiny_checkpoint, "--steps", 3, "--output", out, "--judge", "gpt")
    assert run(*words, "--reference", reference).code == 0
    expected = ["evaluate", "--model_outputs", f"{out}/model_outputs.json", "--annotators_config", "gpt"]
    expected += ["--output_path", f"{out}/judgement"]
    assert json.loads(judge.read_text()) == [
        *expected, "--reference_outputs", f"{reference}/model_outputs.json"
    ]  # fmt: skip
    assert run(*words).code == 0
    assert json.loads(judge.read_text()) == expected


def test_a_judge_that_fails_leaves_the_answers(
    run, tiny_checkpoint, instructions, out, judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "3")
    words = ("--data", instructions, "--model", tiny_checkpoint, *SHORT, "--output", out, "--judge", "gpt")
    outcome = run("eval", "alpaca_eval", *words)
    assert outcome.code == 2
    assert outcome.err.endswith(f"error: `alpaca_eval` failed with exit code 3; the answers are in {out}.\n")
    assert {"model_outputs.json", "results.json", "samples.jsonl"} <= {path.name for path in out.iterdir()}


@pytest.mark.parametrize("missing", ["package", "key", "reference"])
def test_a_judge_that_can_not_judge_is_refused_at_once(
    run, instructions, out, judge, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "package":
        monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "alpaca_eval").exists()])
    if missing == "key":
        monkeypatch.setenv("OPENAI_API_KEY", "")
        for key in ("OPENAI_CLIENT_CONFIG_PATH", "ANTHROPIC_API_KEY"):
            monkeypatch.delenv(key, raising=False)
    words = ("--reference", "no/such/run") if missing == "reference" else ()
    messages = {"package": "needs its package", "key": "needs an API key", "reference": "there is no no/such/run"}
    # the model does not exist either, and is not asked for
    common = ("--data", instructions, "--model", "no/such/model", "--output", out)
    outcome = run("eval", "alpaca_eval", *common, "--judge", "gpt", *words)
    assert outcome.code == 2 and messages[missing] in outcome.err and outcome.err.count("\n") == 1
    assert not out.exists() and not judge.exists()
