"""The R2FT study on tiny random models: figures that mean what they say, fair and resumed runs, plots and page."""

import copy
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")

from benchmarks.decoding_study.long_window import KINDS
from benchmarks.page import fill_in, marks
from benchmarks.r2ft_study import __main__ as r2ft_study
from benchmarks.r2ft_study.losses import as_questions
from benchmarks.r2ft_study.measures import R2FTMeasures
from benchmarks.r2ft_study.report import R2FTReport, over_models
from benchmarks.r2ft_study.tables import to_markdown
from conv_dlm.utils.environment import ROOT
from trainers import noise
from trainers.corruption import CORRUPTIONS

CANVAS = 36  # the shortest repetition has 30 tokens
EOS, MASK = 2, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [{"prompt": f"{i} + {'1' * (i % 3)}?", "reference": f"{i}+1={i + 1}\n#### {i + 1}"} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def other_checkpoint(tiny_llada: Any, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that differs from the tiny one: it ends its texts sooner."""
    folder, model = tmp_path_factory.mktemp("other"), copy.deepcopy(tiny_llada)
    with torch.no_grad():
        model.lm_head.weight[EOS] *= 3
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def measures(tiny_tokenizer: Any, data: Path) -> R2FTMeasures:
    rows = list(map(json.loads, data.read_text().splitlines()))
    prompts, answers = ([row[name] for row in rows] for name in ("prompt", "reference"))
    return R2FTMeasures(
        tokenizer=tiny_tokenizer,
        questions=as_questions(tiny_tokenizer, prompts, answers),
        training_answers=answers,
        vocab_size=260,
        canvas=CANVAS,
        seed=0,
        batch_size=2,
    )


@pytest.fixture
def run(tiny_checkpoint: Path, other_checkpoint: Path, data: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    def run(*more: str, name: str = "a") -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
        """Records of both models, and the result."""
        results = tmp_path / f"{name}.json"
        arguments = (
            f"--models before={tiny_checkpoint} after={other_checkpoint} --data {data} --rows 4 "
            f"--questions 2 --tokens-per-step 18 9 --new-tokens {CANVAS} --kernel-size 4 --batch-size 2 "
            f"--samples {tmp_path / name} --results {results}"
        )
        r2ft_study.main([*arguments.split(), *more])
        files = sorted((tmp_path / name).glob("*/samples-0.jsonl"), key=lambda file: file.parent.name == "after")
        records = {file.parent.name: list(map(json.loads, file.read_text().splitlines())) for file in files}
        return records, json.loads(results.read_text())

    yield run


# --- measures ---


@torch.no_grad()
def test_log_p_is_that_of_a_loop_over_tokens(measures: R2FTMeasures, tiny_llada: Any) -> None:
    args = measures.args
    for record, question in zip(measures.log_p(tiny_llada, measures.questions), measures.questions, strict=True):
        seed_B = noise.row_seeds(0, 0, torch.tensor([question.index]))
        examples = measures.examples([question])
        corruption = args.corruption_rule()(
            examples, lambda n, seed_B=seed_B: noise.uniform(seed_B, noise.CORRUPTION, n), EOS
        )
        prompt, answer = measures.encode(question.prompt), measures.encode(question.answer)
        ids = prompt + answer + [EOS] * (CANVAS - len(answer))
        assert examples.ids_BL[0].tolist() == ids
        seen = [MASK if masked else token for token, masked in zip(ids, corruption.masked_BL[0], strict=True)]
        logits = tiny_llada(torch.tensor([seen])).logits[0].double()
        logits[:, MASK] = -torch.inf
        log_p = logits.log_softmax(1)
        response = range(len(prompt), len(prompt) + len(answer) + 1)  # the first EOS is a part of it
        chosen = sum(log_p[place, ids[place]].item() for place in response if seen[place] == MASK) / len(response)
        rejects = corruption.rejects_BL[0].nonzero().flatten().tolist()
        rejected = sum(log_p[place, corruption.rejected_BL[0, place]].item() for place in rejects) / len(rejects)
        assert (record["chosen"], record["rejected"]) == pytest.approx((chosen, rejected), rel=1e-4)


@pytest.mark.parametrize("measure", ["log_p", "masses", "loss"])
def test_a_row_depends_on_no_other(measures: R2FTMeasures, tiny_llada: Any, measure: str) -> None:
    together = getattr(measures, measure)(tiny_llada, measures.questions)
    alone = [getattr(measures, measure)(tiny_llada, [question])[0] for question in measures.questions]
    for one, other in zip(together, alone, strict=True):
        for key in one:
            assert torch.allclose(torch.tensor(one[key]), torch.tensor(other[key]), atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_masses_are_those_behind_the_prompt(measures: R2FTMeasures, tiny_llada: Any) -> None:
    question = measures.questions[1]
    prompt = measures.encode(question.prompt)
    logits = tiny_llada(torch.tensor([prompt + [MASK] * CANVAS])).logits[0, len(prompt) :].double()
    logits[:, MASK] = -torch.inf
    probs, in_prompt = logits.softmax(1), sorted(set(prompt) - set(measures.tokenizer.all_special_ids))
    mass = dict(zip(KINDS, measures.masses(tiny_llada, [question])[0]["masses"], strict=True))
    assert mass["eos"] == pytest.approx(probs[:, EOS].tolist(), abs=2e-5)
    assert mass["repetition"] == pytest.approx(probs[:, in_prompt].sum(1).tolist(), abs=2e-5)


def test_reference_answers_end_in_eos(measures: R2FTMeasures) -> None:
    for question, record in zip(measures.questions, measures.reference_masses(), strict=True):
        length = len(measures.encode(question.answer))
        assert record["masses"][KINDS.index("eos")] == [0.0] * length + [1.0] * (CANVAS - length)


# --- figures ---


def test_changes_are_taken_row_by_row(measures: R2FTMeasures) -> None:
    def model(shift: float, rows: range) -> list[dict[str, Any]]:
        row = {"part": "log_p", "model": 0}
        return [row | {"index": i, "chosen": -1.0 - i, "rejected": -2.0 * i - shift} for i in rows]

    samples = {"before": model(0, range(4)), "after": model(0.5, range(3))}
    change = R2FTReport(samples, measures).changes(samples["before"], samples["after"])
    assert change["log_p"] == {"chosen": [0.0, 0.0], "rejected": [-0.5, 0.0]}, "no error: all rows change alike"
    assert change["loss"] is None and change["grid"] == []


# --- study ---


def test_the_study_measures_all_models_alike(run: Callable[..., Any]) -> None:
    records, result = run()
    keys = ("part", "decode_type", "steps", "index")
    before, after = ([tuple(row.get(key) for key in keys) for row in rows] for rows in records.values())
    assert before == after
    assert len(before) == len(set(before)) == 3 * 4 + 2 * 2 * 2
    assert {"command", "date", "versions", "device", "settings"} <= set(result)
    for name in ("before", "after"):
        model = result["models"][name]
        assert model["loss"]["n"] == model["log_p"]["n"] == model["masses"]["n"] == 4
        assert [(row["decode_type"], row["steps"], row["n"]) for row in model["grid"]] == [
            ("topk", 2, 2), ("conv", 2, 2), ("topk", 4, 2), ("conv", 4, 2),
        ]  # fmt: skip
        assert len(model["masses"]["all"]["eos"]["at"]["mean"]) == CANVAS
    before, after = (result["models"][name]["masses"]["all"]["eos"]["at"]["mean"] for name in ("before", "after"))
    assert before != after
    for key in ("chosen", "rejected"):
        of_models = [result["models"][name]["log_p"][key][0] for name in ("before", "after")]
        assert result["changes"]["after"]["log_p"][key][0] == pytest.approx(of_models[1] - of_models[0])


def test_a_stopped_study_is_resumed(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, expected = run(name="whole")
    real, calls = r2ft_study.measure, []

    def stop_in_the_tenth(*args: Any) -> int:
        calls.append(args)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(r2ft_study, "measure", stop_in_the_tenth)
    stopped, _ = run()
    assert [len(rows) for rows in stopped.values()].count(4 + 2 * 4) >= 1, "losses, log p and masses come first"
    assert {len(rows) for rows in stopped.values()} <= {10, 12}, "models take turns"
    monkeypatch.setattr(r2ft_study, "measure", real)
    resumed, result = run()
    for name, rows in whole.items():
        without_seconds = [[{**row, "seconds": 0} for row in of] for of in (resumed[name], rows)]
        assert without_seconds[0] == without_seconds[1]
    assert result["models"]["after"]["log_p"] == expected["models"]["after"]["log_p"]


def test_more_questions_and_steps_are_added(run: Callable[..., Any]) -> None:
    few, _ = run("--questions", "1", "--tokens-per-step", "18")
    more, result = run("--questions", "2", "--tokens-per-step", "18", "9")
    for name, rows in few.items():
        assert more[name][: len(rows)] == rows
    assert {row["n"] for row in result["models"]["before"]["grid"]} == {2}


def test_no_time_writes_the_result_of_what_is_there(run: Callable[..., Any]) -> None:
    _, nothing = run("--minutes", "0")
    assert nothing["models"]["before"]["loss"] is None
    assert "| before | – |" in to_markdown(nothing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rows", "5"), "must be between 1 and 4"),
        (("--questions", "5"), "more than `rows`=4"),
        (("--models", "a=x", "b=x"), "have x twice"),
        (("--models", "a-2=x", "a=y", "a=z"), "have 'a-2' as a name, and several of the name 'a'"),
        (("--field", "question"), "no text in field 'question'"),
    ],
)
def test_bad_arguments_are_named(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tiny_llada: Any, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(r2ft_study, "_load", lambda *_: tiny_llada)
    with pytest.raises(ValueError, match=message):
        run(*arguments)


@pytest.mark.parametrize("word", ["before", "before=", "=path", "a/b=path"])
def test_models_are_named(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        r2ft_study.make_parser().parse_args(["--models", word])
    assert "NAME=PATH" in capsys.readouterr().err


def test_other_weights_are_refused_by_name(run: Callable[..., Any], other_checkpoint: Path) -> None:
    run("--minutes", "0")
    with pytest.raises(ValueError, match=r"another run \(weights: "):
        run("--minutes", "0", "--models", f"before={other_checkpoint}")


# --- plots ---


@pytest.fixture
def result(run: Callable[..., Any], tmp_path: Path) -> Path:
    run()
    return tmp_path / "a.json"


def test_plots_and_page_are_written_from_the_result(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.r2ft_study import plots as r2ft_plots

    log, page, plots = tmp_path / "trainer_state.json", tmp_path / "docs/r2ft.md", tmp_path / "docs/plots"
    entries = [{"step": step, "eval_logps/chosen": -1.0, "eval_logps/rejected": -step / 10} for step in (0, 20, 40)]
    log.write_text(json.dumps({"log_history": [{"step": 10, "loss": 1.0}, *entries]}))
    page.parent.mkdir()
    begin, end = marks("study")
    page.write_text(f"# R2FT\n\n{begin}\nold\n{end}\n\nThe end.\n")
    capsys.readouterr()
    r2ft_plots.main([str(result), "--plots", str(plots), "--page", str(page), "--log", str(log)])

    text = page.read_text()
    names = {f"r2ft_{name}.png" for name in ("log_p", "training", "masses", "answers")}
    assert {path.name for path in plots.iterdir()} == names
    assert all(2_000 < path.stat().st_size < 100_000 for path in plots.iterdir())
    assert all(f"](plots/{name})" in text for name in names)
    assert text.startswith("# R2FT\n\n") and text.endswith("\n\nThe end.\n") and "old" not in text
    tables = to_markdown(json.loads(result.read_text()))
    assert all(table in text for table in tables.strip().split("\n\n"))
    assert capsys.readouterr().out.strip() == tables.strip()


@pytest.mark.parametrize(
    ("arguments", "plots"),
    [(("--questions", "0"), {"r2ft_log_p.png", "r2ft_masses.png"}), (("--minutes", "0"), set())],
)
def test_what_was_not_measured_is_not_drawn(
    run: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], plots: set[str]
) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.r2ft_study import plots as r2ft_plots

    run(*arguments)
    r2ft_plots.main([str(tmp_path / "a.json"), "--plots", str(tmp_path / "plots")])
    assert {path.name for path in (tmp_path / "plots").iterdir()} == plots


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Words\n" + marks("other")[0] + marks("other")[1])
    with pytest.raises(ValueError, match="put both marks into it"):
        fill_in(page, "study", "tables")
    assert page.read_text().startswith("# Words\n<!-- other: begin --><")


def test_the_page_names_rules_that_exist() -> None:
    rows = (ROOT / "docs/r2ft.md").read_text().partition("| `corruption` |")[2].partition("\n\n")[0]
    assert {"repeat", "naive"} <= set(re.findall(r"^\| `(\w+)` \|", rows, flags=re.MULTILINE)) <= set(CORRUPTIONS)


def test_the_page_shows_the_stored_result() -> None:
    result = ROOT / "benchmarks/results/r2ft.json"
    page = (ROOT / "docs/r2ft.md").read_text()
    if result.exists():
        tables = to_markdown(json.loads(result.read_text()))
        assert all(table in page for table in tables.strip().split("\n\n")), "run r2ft_study.plots with --page"
    else:
        assert "No result is stored yet." in page


def test_tables_say_what_is_known(measures: R2FTMeasures) -> None:
    def answers(text: str, model: int) -> dict[str, Any]:
        ids = measures.encode(text)
        setting = {"decode_type": "conv", "steps": 4, "index": 0, "model": model}
        return setting | {"ids": ids, "ended": True, "forwards": 4, "seconds": 1.0}

    samples = {"a": [answers("abababab", 0)], "b": [answers("1+1=2\n#### 1", 1), answers("1+1=2\n#### 2", 2)]}
    report = R2FTReport(samples, measures, ("strict",))
    result = {
        "reference": report.reference(),
        "models": {name: report.model(rows) for name, rows in samples.items()},
        "changes": {"b": report.changes(samples["a"], samples["b"])},
    }
    table = to_markdown(result)
    assert "| `conv`, 9 tokens a step | a | 0.0 | 60.0 | 0.0 | 8.0 |" in table, "no error is claimed for one answer"
    assert "| `conv`, 9 tokens a step | b (2 models) | 50.0 (70.7) | 0.0 (0.0) | 0.0 (0.0) | 12.0 (0.0) |" in table
    assert "b (2 models) − a | +50.0 (70.7) | -60.0 (0.0) | +0.0 (0.0) | +4.0 (0.0) | 1 |" in table
    prior = sum(measures.log_priors_V[token] for token in measures.encode("abababab")) / 8
    assert result["models"]["a"]["grid"][0]["log_prior"][0] == pytest.approx(float(prior))
    assert math.isfinite(result["reference"]["log_prior"][1])


def test_models_of_one_name_go_together(run: Callable[..., Any], tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Generated problems too: their own answers are right."""
    twin = shutil.copytree(tiny_checkpoint, tmp_path / "twin")
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    models = ["--models", f"a={tiny_checkpoint}", f"b={other}", f"b={twin}"]
    _, result = run("--data", "word_problems", "--level", "1", "--training-rows", "9", "--questions", "1", *models)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"a", "b", "b-2"}
    assert [model["models"] for model in result["models"].values()] == [1, 2]
    a, b = (model["grid"][0]["accuracy"] for model in result["models"].values())
    assert (len(a), len(b), b[2]) == (2, 3, 0) and result["reference"]["accuracy"][0] == 1
    assert result["models"]["b"]["log_p"]["chosen"][:2] == pytest.approx(result["models"]["a"]["log_p"]["chosen"])
    assert result["changes"]["b"]["loss"] == pytest.approx([0, 0, 0])


def test_errors_are_over_questions_and_spread_over_models() -> None:
    records = [{"index": index, "model": model} for model in (0, 1) for index in (0, 1)]
    value, error, deviation = over_models(records, [0, 1, 1, 2])
    assert (value, error) == pytest.approx((1, 0.5)) and deviation == pytest.approx(0.5**0.5)
    assert len(over_models(records[:2], [0, 1])) == 2, "one model has no spread"
