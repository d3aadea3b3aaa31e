"""The grid on a tiny random model: resumed runs, results that don't depend on the batch, honest tables."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gsm8k_grid
from benchmarks.grid_report import GridReport, to_markdown
from benchmarks.gsm8k import Question, answer_losses, load_questions
from benchmarks.samples import SampleFile


@pytest.fixture(scope="module")
def questions_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "test.jsonl"
    with path.open("w") as file:
        for i in range(1, 5):
            row = {"question": f"What is {i} + {'1' * i}?", "answer": f"It is <<{i}+1={i + 1}>>\n#### {i + 1}"}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def run(tiny_checkpoint: Path, questions_file: Path, tmp_path: Path) -> Iterator[Any]:
    def run(*more: str, name: str = "a") -> tuple[list[dict[str, Any]], dict[str, Any]]:
        samples, results = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.json"
        arguments = (
            f"--model {tiny_checkpoint} --data {questions_file} --questions 4 --steps 3 6 --new-tokens 12 "
            f"--kernel-size 4 --block-length 4 --batch-size 2 --samples {samples} --results {results}"
        )
        gsm8k_grid.main([*arguments.split(), *more])
        return [json.loads(line) for line in samples.read_text().splitlines()], json.loads(results.read_text())

    yield run


def test_every_setting_gets_every_question(run: Any) -> None:
    samples, results = run()
    done = [(s["decode_type"], s["steps"], s["index"]) for s in samples if "decode_type" in s]
    assert len(done) == len(set(done)) == 6 * 2 * 4
    assert {row["n"] for row in results["grid"]} == {4}
    assert results["held_out_loss"]["n"] == 4
    assert {"command", "date", "versions", "device", "threads", "settings"} <= set(results)


def test_settings_progress_together_and_a_stopped_run_is_resumed(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = run("--decode-types", "conv", "llada", name="whole")
    real, calls = gsm8k_grid.answer, []

    def stop_in_the_fifth(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(gsm8k_grid, "answer", stop_in_the_fifth)
    _, stopped = run("--decode-types", "conv", "llada")
    assert [row["n"] for row in stopped["grid"]] == [2, 2, 2, 2], "one block of questions for each setting"
    monkeypatch.setattr(gsm8k_grid, "answer", real)
    resumed, _ = run("--decode-types", "conv", "llada")

    def texts(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return [(s["decode_type"], s["steps"], s["index"], s["ids"]) for s in lines if "ids" in s]

    assert texts(resumed) == texts(whole)


def test_a_sample_depends_on_its_question_and_seed_alone(run: Any) -> None:
    def by_key(lines: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[int]]:
        return {(s["decode_type"], s["steps"], s["index"]): s["ids"] for s in lines if "ids" in s}

    one, four, other = (
        by_key(run("--decode-types", "categorical", *more, name=name)[0])
        for name, more in (("b1", ("--batch-size", "1")), ("b4", ("--batch-size", "4")), ("s", ("--seed", "1")))
    )
    assert one == four
    assert one != other


def test_a_block_goes_through_all_settings_before_the_next() -> None:
    arguments = "--steps 8 4 --decode-types conv llada --block 4 --batch-size 2"
    args = gsm8k_grid.make_parser().parse_args(arguments.split())
    questions = [Question(i, "?" * (9 - i), "") for i in range(6)]
    order = [(kind, steps, [q.index for q in batch]) for kind, steps, batch in gsm8k_grid.schedule(args, questions)]
    settings = [(kind, steps) for steps in (4, 8) for kind in ("conv", "llada")]
    first = [(*setting, batch) for setting in settings for batch in ([3, 2], [1, 0])]
    assert order == first + [(*setting, [5, 4]) for setting in settings]


def test_an_answer_ends_before_its_eos(tiny_tokenizer: Any) -> None:
    class Speaker:
        device = torch.device("cpu")

        def generate(self, input_ids: torch.Tensor, **_: Any) -> Any:
            responses = torch.tensor([[5, 6, 2, 0, 0], [7, 8, 9, 10, 11]])
            return SimpleNamespace(sequences=torch.cat([input_ids, responses], 1), forwards=torch.tensor([3, 4]))

    args = gsm8k_grid.make_parser().parse_args([])
    batch = [Question(0, "a", ""), Question(7, "bc", "")]
    samples = gsm8k_grid.answer(Speaker(), tiny_tokenizer, batch, args, "conv", 8)
    assert [(s["index"], s["ids"], s["forwards"]) for s in samples] == [(0, [5, 6], 3), (7, [7, 8, 9, 10, 11], 4)]


def test_no_time_writes_the_results_of_what_is_there(run: Any) -> None:
    _, before = run("--decode-types", "topk", "--steps", "3")
    _, after = run("--minutes", "0")
    assert after["grid"] == before["grid"]


def test_samples_of_other_settings_are_refused_by_name(run: Any) -> None:
    run("--minutes", "0")
    with pytest.raises(ValueError, match=r"another run \(kernel_size: 4, now 8\)"):
        run("--kernel-size", "8")


def test_a_line_cut_off_by_a_crash_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    SampleFile(path, {"seed": 0}).add([{"index": 0}, {"index": 1}])
    with path.open("a") as file:
        file.write('{"index": 2')
    file = SampleFile(path, {"seed": 0})
    file.add([{"index": 3}])
    assert SampleFile(path, {"seed": 0}).keys("index") == {(0,), (1,), (3,)}
    path.write_text('{"settings": {"se')
    assert SampleFile(path, {"seed": 1}).samples == []


def test_too_few_questions_are_refused(tiny_tokenizer: Any, questions_file: Path) -> None:
    with pytest.raises(ValueError, match="only 4"):
        load_questions(tiny_tokenizer, 5, questions_file)


def test_losses_do_not_depend_on_the_batch(tiny_llada: Any, tiny_tokenizer: Any, questions_file: Path) -> None:
    pytest.importorskip("trl")
    questions = load_questions(tiny_tokenizer, 4, questions_file)
    one, four = (answer_losses(tiny_llada, tiny_tokenizer, questions, 0, size) for size in (1, 4))
    assert [loss for loss, _ in one] == pytest.approx([loss for loss, _ in four], rel=1e-4)
    assert [tokens for _, tokens in one] == [len(question.answer) + 1 for question in questions]


def test_loss_of_a_model_that_knows_nothing_is_that_of_guessing(tiny_tokenizer: Any, questions_file: Path) -> None:
    pytest.importorskip("trl")

    class Blank:
        device = torch.device("cpu")

        class config:
            mask_token_id = 3

        def __call__(self, logits_to_keep: torch.Tensor, **_: Any) -> Any:
            return type("Output", (), {"logits": torch.zeros(int(logits_to_keep.sum()), 260)})

    questions = load_questions(tiny_tokenizer, 4, questions_file) * 100
    losses = answer_losses(Blank(), tiny_tokenizer, questions, 0, 100)
    mean = sum(loss for loss, _ in losses) / sum(tokens for _, tokens in losses)
    assert mean == pytest.approx(math.log(259), rel=0.1), "the mask is never guessed"


def test_figures_of_known_answers(tiny_tokenizer: Any) -> None:
    def sample(text: str, index: int) -> dict[str, Any]:
        ids = tiny_tokenizer(text, add_special_tokens=False).input_ids
        return {"decode_type": "conv", "steps": 8, "index": index, "ids": ids, "forwards": 4, "seconds": 2.0}

    samples = [sample("<<1+1=2>> <<2+3=4>>\n#### 2", 0), sample("aaaaaaaa", 1)]
    report = GridReport(samples, {0: "#### 2", 1: "#### 5"}, tiny_tokenizer)
    (row,) = report.grid()
    assert (row["n"], row["annotations"]) == (2, 2)
    assert row["well_formed"] == row["accuracy"] == [0.5, 0.5]
    assert row["annotations_right"][0] == 0.5
    assert row["repeated_4grams"][0] == pytest.approx((1 - 1 / 5) / 2)
    lengths = [len(s["ids"]) for s in samples]
    assert row["tokens_per_forward"][0] == pytest.approx(sum(lengths) / 8)
    assert row["tokens_per_second"][0] == pytest.approx(sum(lengths) / 4)

    alone = GridReport(samples[1:], {1: "#### 5"}, tiny_tokenizer)
    assert alone.grid()[0]["annotations_right"] is None
    table = to_markdown({"held_out_loss": alone.held_out_loss(), "grid": alone.grid()})
    assert "| `conv` | 8 | 1 | 0 | – | 80.0 |" in table, "no error is claimed for one sample"
