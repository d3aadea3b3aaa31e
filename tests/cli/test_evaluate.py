"""`conv-dlm eval`: a task's questions answered and scored, gone on with after interruptions, by several processes."""

import contextlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from conv_dlm.cli import main
from conv_dlm.cli.options import option_settings
from conv_dlm.evaluation import respondent as respondent_module
from conv_dlm.evaluation.respondent import decoding_fields
from conv_dlm.evaluation.sample_folder import SampleFolder
from tests.forks import context
from tests.ranks import in_ranks

QUESTIONS = ["6 * 3?", "A longer question: 1 + 1?", "3?", "What is 4 - 2?", "5 and 5?"]
SHORT = ("--steps", 3, "--max-new-tokens", 8)
SHARES = ["accuracy_strict", "accuracy_flexible", "well_formed", "repeated_4grams", "ended", "empty"]
COSTS = ["tokens", "forwards", "seconds", "tokens_per_forward", "tokens_per_second"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def without_times(folder: Path) -> list[dict[str, Any]]:
    """samples.jsonl, but for seconds."""
    samples = lines(folder / "samples.jsonl")
    for sample in samples:
        for turn in sample["turns"]:
            assert turn.pop("seconds") > 0
    return samples


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    rows = [{"question": question, "answer": f"#### {number}"} for number, question in enumerate(QUESTIONS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def evaluate(run, tiny_checkpoint: Path, sums: Path, out: Path):
    """`evaluate("--seed", 1)`: GSM8K's task on the tiny model."""

    def evaluate(*words: object, folder: Path = out):
        common = ("--data", sums, "--model", tiny_checkpoint, *SHORT, "--output", folder)
        return run("eval", "gsm8k", *common, *words)

    return evaluate


# What comes out


def test_figures_are_shown_with_their_errors(evaluate, out: Path) -> None:
    outcome = evaluate()
    assert outcome.code == 0 and outcome.err == f"5 rows; all of it in {out}\n"
    shown = [re.fullmatch(r"(\w+) +([\d.]+) ± ([\d.]+)( %)?", line) for line in outcome.out.splitlines()]
    assert [match[1] for match in shown] == SHARES + COSTS
    assert [match[1] for match in shown if match[4]] == SHARES
    assert len({line.index("±") for line in outcome.out.splitlines()}) == 1
    figures = json.loads((out / "results.json").read_text())["figures"]
    for match in shown:
        factor = 100 if match[4] else 1
        value, error = figures[match[1]]
        assert (match[2], match[3]) == (f"{factor * value:.2f}", f"{factor * error:.2f}")


def test_the_results_say_where_they_are_from(evaluate, out: Path, tiny_checkpoint: Path) -> None:
    evaluate("--seed", 7, "--batch-size", 2)
    result = json.loads((out / "results.json").read_text())
    assert (result["task"], result["n"], list(result["figures"])) == ("gsm8k", 5, SHARES + COSTS)
    settings = result["settings"]
    assert settings["model"] == tiny_checkpoint.name and len(settings["weights"]) == 16
    chosen = {"adapter": None, "seed": 7, "device": "cpu", "dtype": "float32", "answer_rules": ["strict", "flexible"]}
    assert (chosen | {"steps": 3, "max_new_tokens": 8, "decode_type": "conv", "top_k": 1}).items() <= settings.items()
    assert set(decoding_fields()) <= set(settings) and settings == json.loads((out / "settings.json").read_text())
    (made,) = result["runs"]
    assert set(made["versions"]) >= {"conv_dlm", "python", "torch", "transformers"} and made["device"] and made["date"]
    assert (made["process"], made["processes"], made["batch_size"]) == (0, 1, 2)


def test_samples_have_the_answers(evaluate, generate, out: Path, sums: Path, tmp_path: Path) -> None:
    """The same as `conv-dlm generate` gives."""
    evaluate()
    generate("--input", sums, "--field", "question", *SHORT, "--output", tmp_path / "generated.jsonl")
    samples, generated = lines(out / "samples.jsonl"), lines(tmp_path / "generated.jsonl")
    assert [sample["row"] for sample in samples] == lines(sums)
    assert [sample["turns"][0]["text"] for sample in samples] == [row["text"] for row in generated]
    assert [sample["turns"][0]["forwards"] for sample in samples] == [row["forwards"] for row in generated]
    assert [len(sample["turns"][0]["ids"]) for sample in samples] == [row["tokens"] for row in generated]
    assert list(samples[0]["scores"]) == SHARES[:3]


def test_every_decoding_option_is_on_record() -> None:
    """But for `compile`, on which no answer depends."""
    assert set(decoding_fields()) == set(option_settings()) - {"compile"}


def test_answer_rules_and_first_questions(evaluate, out: Path) -> None:
    outcome = evaluate("--answer-rules", "paper", "number", "--questions", 2)
    assert outcome.err.startswith("2 rows; ")
    assert [line.split()[0] for line in outcome.out.splitlines()][:2] == ["accuracy_paper", "accuracy_number"]
    assert json.loads((out / "settings.json").read_text())["answer_rules"] == ["paper", "number"]


def test_an_adapter_brings_its_base(evaluate, out: Path, tiny_checkpoint: Path, tiny_llada, tmp_path: Path) -> None:
    """And the base its tokenizer, where the adapter was saved without one."""
    import copy

    import torch
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(copy.deepcopy(tiny_llada), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    adapted.peft_config["default"].base_model_name_or_path = str(tiny_checkpoint)
    adapted.save_pretrained(tmp_path / "adapter")
    assert evaluate("--model", tmp_path / "adapter").code == 0
    assert evaluate(folder=tmp_path / "base").code == 0
    settings, base = (json.loads((path / "settings.json").read_text()) for path in (out, tmp_path / "base"))
    assert (settings["model"], settings["adapter"]) == (tiny_checkpoint.name, "adapter")
    assert settings["weights"] != base["weights"]
    assert without_times(out) != without_times(tmp_path / "base")


def test_prompts_of_several_turns(run, tiny_checkpoint: Path, out: Path, tmp_path: Path, tiny_tokenizer) -> None:
    (tmp_path / "rows.jsonl").write_text('{"turns": ["one", "two"]}\n{"text": "three"}\n')
    words = ("eval", "prompts", "--data", tmp_path / "rows.jsonl", "--field", "text", "--output", out, *SHORT)
    outcome = run(*words, "--model", tiny_checkpoint)
    assert outcome.code == 0 and [line.split()[0] for line in outcome.out.splitlines()] == SHARES[3:] + COSTS
    assert [len(sample["turns"]) for sample in lines(out / "samples.jsonl")] == [2, 1]
    outcome = run(*words, "--model", tiny_checkpoint, "--raw", "--output", tmp_path / "raw")
    assert outcome.code == 2 and "Several turns need a chat template, but `--raw` was given" in outcome.err
    assert not (tmp_path / "raw").exists()


def test_an_autoregressive_model_answers(run, causal_checkpoint: Path, out: Path, sums: Path, tmp_path: Path) -> None:
    def ask(folder: Path, *words: object) -> dict[str, Any]:
        common = ("--data", sums, "--model", causal_checkpoint, "--max-new-tokens", 6, "--output", folder)
        assert run("eval", "gsm8k", "--autoregressive", *common, *words).code == 0
        return json.loads((folder / "settings.json").read_text())

    settings = ask(out, "--batch-size", 5)
    assert (settings["autoregressive"], settings["top_p"], settings["max_new_tokens"]) == (True, 0.95, 6)
    assert settings["model"] == causal_checkpoint.name and "steps" not in settings
    ask(tmp_path / "one", "--batch-size", 1)
    assert without_times(tmp_path / "one") == without_times(out)
    ask(tmp_path / "greedy", "--top-p", 0)
    assert without_times(tmp_path / "greedy") != without_times(out)


# Interruptions, and several processes


def test_an_interrupted_run_goes_on(evaluate, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, calls = respondent_module.answer, []

    def interrupted(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(*args, **options)

    monkeypatch.setattr(respondent_module, "answer", interrupted)
    outcome = evaluate("--batch-size", 2)
    assert outcome.code == 130 and outcome.out == ""
    assert outcome.err == f"interrupted: 2 of 5 rows are in {out}; the same command resumes from there\n"
    assert evaluate("--batch-size", 3).code == 0 and len(calls) == 3
    runs = json.loads((out / "results.json").read_text())["runs"]
    assert [made["batch_size"] for made in runs] == [2, 3]
    evaluate(folder=tmp_path / "whole")
    assert without_times(out) == without_times(tmp_path / "whole")

    before = contents(out)
    assert evaluate().code == 0 and len(calls) == 4
    assert contents(out) == before  # versions and date too are of those who gave the answers


def evaluate_until_killed(words: list[str]) -> None:
    """The process ends without a word, as by the system, behind the second answer."""
    add = SampleFolder.add

    def add_or_die(folder: SampleFolder, *given: Any, **named: Any) -> None:
        add(folder, *given, **named)
        if len(folder.samples()) > 2:  # the first says what run it is
            os.kill(os.getpid(), signal.SIGKILL)

    SampleFolder.add = add_or_die
    main(["eval", "gsm8k", *words])


def test_a_killed_process(evaluate, out: Path, tmp_path: Path, sums: Path, tiny_checkpoint: Path) -> None:
    words = ["--data", sums, "--model", tiny_checkpoint, *SHORT, "--output", out, "--batch-size", 1]
    process = context().Process(target=evaluate_until_killed, args=([str(word) for word in words],))
    process.start()
    process.join()
    file = out / "samples-0.jsonl"
    kept = file.read_bytes()
    assert process.exitcode == -signal.SIGKILL and kept.count(b"\n") == 3 and not (out / "results.json").exists()
    assert evaluate().code == 0 and file.read_bytes().startswith(kept)
    evaluate(folder=tmp_path / "whole")
    assert without_times(out) == without_times(tmp_path / "whole")


def command_of_a_rank(words: list[str], shown: Path) -> None:
    with shown.open("a") as file, contextlib.redirect_stdout(file):
        assert main(["eval", "gsm8k", *words]) == 0


def test_two_processes_give_what_one_gives(evaluate, out: Path, tmp_path: Path, sums: Path, tiny_checkpoint) -> None:
    words = ["--data", sums, "--model", tiny_checkpoint, *SHORT, "--batch-size", 2, "--output", tmp_path / "two"]
    in_ranks("cpu", 2, command_of_a_rank, [str(word) for word in words], tmp_path / "shown")
    assert [line.split()[0] for line in (tmp_path / "shown").read_text().splitlines()] == SHARES + COSTS  # of one
    evaluate()
    assert without_times(tmp_path / "two") == without_times(out)
    assert {sample.get("index") for sample in lines(tmp_path / "two" / "samples-1.jsonl")} == {None, 1, 3}
    runs = json.loads((tmp_path / "two" / "results.json").read_text())["runs"]
    assert [(made["process"], made["processes"]) for made in runs] == [(0, 2), (1, 2)]


# Mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch-size", 0), "`--batch-size`=0 must be at least 1."),
        (("--questions", 6), "`questions`=6 must be between 1 and 5, the number of rows."),
        (("--questions", 0), "`questions`=0 must be between 1 and 5"),
        (("--answer-rules", "strict", "kind"), "'kind' is none of ['flexible', 'number', 'paper', 'strict']"),
        (("--max-new-tokens", 0), "`--max-new-tokens`=0 leaves no room for an answer"),
        (("--top-p", 0.9), "`--top-p` is for `--autoregressive`"),
        (("--autoregressive",), "`--steps` has no effect with `--autoregressive`"),
        (("--decode-type", "llada", "--kernel-size", 5), "`kernel_size`=5 has no effect with `decode_type='llada'`"),
        (("--decode-type", "con"), "did you mean 'conv'"),
        (("--data", "no/such/file.jsonl"), "No such file or directory: 'no/such/file.jsonl'"),
        (("--data", "tests"), "Is a directory: 'tests'"),
        (("--model", "no/such/model"), "`model`='no/such/model': there is no such folder"),
        (("--raw", "--system", "be brief"), "`--raw` was given"),
        (("--judge", "gpt"), "unrecognized arguments: --judge gpt (see conv-dlm eval gsm8k --help)"),
        (("--field", "text"), "unrecognized arguments: --field text"),
        (("--output",), "argument --output: expected one argument"),
    ],
)
def test_a_mistake_is_one_line(evaluate, out: Path, words: tuple[object, ...], message: str) -> None:
    outcome = evaluate(*words)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("conv-dlm eval")
    assert outcome.out == "" and not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gsm8k", "--autoregressive", "--kernel-size", 5), "`--kernel-size` has no effect with `--autoregressive`"),
        (("gsm8k", "--autoregressive", "--top-p", 1.5), "`--top-p`=1.5 must lie between 0 and 1."),
        (("gsm8k", "--autoregressive", "--data", "SUMS"), "which denoises; give a causal language model"),
        (("gsm8k", "--skip-malformed"), "`--skip-malformed` is for `--data`; drop it."),
        (("alpaca_eval", "--reference", "run"), "`--reference` is for `--judge`"),
        (("prompts",), "the following arguments are required: --data"),
        (("riddles",), "invalid choice: 'riddles' (choose from"),
        ((), "the following arguments are required: TASK"),
    ],
)
def test_another_mistake_is_one_line(run, out: Path, sums: Path, words: tuple[object, ...], message: str) -> None:
    words = tuple(sums if word == "SUMS" else word for word in words)
    outcome = run("eval", *words, *(("--output", out) if words else ()))
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.count("\n") == 1 and outcome.err.startswith("conv-dlm eval")
    assert outcome.out == "" and not out.exists()


def test_a_model_that_does_not_denoise(evaluate, causal_checkpoint: Path) -> None:
    outcome = evaluate("--model", causal_checkpoint)
    assert outcome.code == 2 and "is a 'llama' model, which does not denoise" in outcome.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 7: not JSON: "),
        ("[1]", "line 7: a JSON object is needed, not list."),
        ('{"question": "x"}', "line 7: no text in field 'answer'; it has ['question']."),
        ('{"question": "x", "answer": 3}', "line 7: no text in field 'answer'"),
    ],
)
def test_malformed_lines_are_named_and_left_out_on_request(
    evaluate, sums: Path, out: Path, line: str, message: str
) -> None:
    whole = sums.read_text()
    sums.write_text(f"{whole}\n{line}\n")
    outcome = evaluate()
    assert outcome.code == 2 and f"{sums}, {message}" in outcome.err and outcome.err.count("\n") == 1
    assert not out.exists()
    outcome = evaluate("--skip-malformed")
    assert outcome.code == 0 and outcome.err.startswith(f"left out: {sums}, {message}")
    assert [sample["row"]["question"] for sample in lines(out / "samples.jsonl")] == QUESTIONS


def test_a_file_without_rows(evaluate, sums: Path, out: Path) -> None:
    sums.write_text("\n")
    outcome = evaluate()
    assert outcome.code == 2 and outcome.err == f"conv-dlm eval: error: {sums} holds no rows.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", 1), "(seed: 0, now 1)"),
        (("--steps", 4, "--kernel-size", 5), "(kernel_size: 128, now 5; steps: 3, now 4)"),
        (("--answer-rules", "paper"), "(answer_rules: ['strict', 'flexible'], now ['paper'])"),
        (("--questions", 4), "(rows: {'count': 5, "),
    ],
)
def test_another_run_is_refused_and_kept(evaluate, out: Path, words: tuple[object, ...], message: str) -> None:
    evaluate()
    before = contents(out)
    outcome = evaluate(*words)
    assert outcome.code == 2 and f"{out} holds samples of another run {message}" in outcome.err
    assert outcome.err.count("\n") == 1 and "Name another folder, or remove it." in outcome.err
    assert contents(out) == before


def test_other_weights_under_the_same_name_are_another_run(
    evaluate, out: Path, tmp_path: Path, make_llada, tiny_tokenizer
) -> None:
    """As after more training into the same folder."""
    import torch

    model = make_llada()
    for std in (0.0, 1e-3):
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += std * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / "model")
        tiny_tokenizer.save_pretrained(tmp_path / "model")
        outcome = evaluate("--model", tmp_path / "model")
    assert outcome.code == 2 and "holds samples of another run (weights: '" in outcome.err


def test_a_folder_of_something_else_is_refused_at_once(evaluate, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    outcome = evaluate("--model", "no/such/model")
    assert outcome.code == 2 and f"{out} holds 'notes.txt', and no run. Name another folder" in outcome.err
    assert contents(out) == {"notes.txt": b"mine"}
    outcome = evaluate("--model", "no/such/model", folder=out / "notes.txt")
    assert outcome.code == 2 and "notes.txt is a file; name a folder" in outcome.err


def test_a_prompt_that_does_not_fit_is_named(evaluate, sums: Path) -> None:
    row = {"question": "x" * 300, "answer": "#### 1"}
    sums.write_text(sums.read_text() + json.dumps(row) + "\n")
    outcome = evaluate("--batch-size", 1)
    assert outcome.code == 2 and outcome.err.startswith("conv-dlm eval: error: row 5: `max_new_tokens`=")


# Help


def test_help_teaches(run) -> None:
    outcome = run("eval", "--help")
    assert outcome.code == 0 and outcome.out.startswith("usage: conv-dlm eval TASK --output FOLDER [options]\n")
    assert "gsm8k" in outcome.out and "alpaca_eval" in outcome.out and "prompts" in outcome.out
    assert "accelerate launch --num_processes 8 -m conv_dlm eval" in outcome.out
    assert "eval" in run("--help").out


@pytest.mark.parametrize(
    ("task", "usage", "options"),
    [
        ("gsm8k", "gsm8k --output FOLDER", ["--answer-rules", "paper     that of arXiv 2509.15188"]),
        ("alpaca_eval", "alpaca_eval --output FOLDER", ["--judge", "--reference", "--name"]),
        ("prompts", "prompts --data FILE --output FOLDER", ["--field"]),
    ],
)
def test_the_help_of_a_task(run, task: str, usage: str, options: list[str]) -> None:
    from conv_dlm import DECODE_TYPES

    outcome = run("eval", task, "--help")
    assert outcome.code == 0 and outcome.out.startswith(f"usage: conv-dlm eval {usage} [options]\n")
    common = ["--data", "--questions", "--skip-malformed", "--batch-size", "--autoregressive", "--top-p", "--seed"]
    assert all(text in outcome.out for text in [*options, *common, "--kernel-size", "--model"])
    assert all(outcome.out.count(kind.summary) == 1 for kind in DECODE_TYPES.values())
    from conv_dlm.evaluation.autoregressive import TOP_P
    from conv_dlm.evaluation.tasks.gsm8k import DEFAULT_RULES

    assert f"(default: {TOP_P})" in outcome.out
    assert task != "gsm8k" or f"(default: {' '.join(DEFAULT_RULES)})" in outcome.out
