"""`python -m benchmarks.decoding_study`: a grid of decoders on a prompt set, resumed and shared out."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.decoding_study import __main__ as study
from benchmarks.decoding_study.grid import KEY
from conv_dlm.cli.progress import with_progress
from conv_dlm.evaluation import respondent

PROMPTS = ["one", "a second and longer prompt", "three"]
GRID = ("--decode-types", "conv", "llada", "--steps", 2, 3, "--sizes", 4, 8, "--seeds", 0, 1, "--batch-size", 2)
DRAW = study.draw
Run = Any


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than everything else here."""
    monkeypatch.setattr(study, "draw", lambda *_: [])


@pytest.fixture
def plots(no_plots: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are drawn, into empty files."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(study, "draw", DRAW)
    monkeypatch.setattr("benchmarks.decoding_study.plots.save", lambda figure, path: path.write_text(""))


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows = [{"prompt": prompt, "reference": f"so\n#### {index}"} for index, prompt in enumerate(PROMPTS)]
    return write(tmp_path / "prompts.jsonl", *rows)


@pytest.fixture
def compare(run: Run, tiny_checkpoint: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "100")

    def compare(*words: object, name: str = "run") -> Any:
        common = ("--model", tiny_checkpoint, "--max-new-tokens", 8, "--data", prompts, "--output", tmp_path / name)
        return run(*common, *words)

    return compare


class Asked:
    """How many prompts each batch had that the model was asked; after `limit` batches comes an interruption."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.limit: int | None = None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    real, asked = respondent.answer, Asked()

    def answer(model: Any, tokenizer: Any, texts: Any, *args: Any, **options: Any) -> Any:
        if len(asked.counts) == asked.limit:
            raise KeyboardInterrupt
        asked.counts.append(len(texts))
        return real(model, tokenizer, texts, *args, **options)

    monkeypatch.setattr(respondent, "answer", answer)
    return asked


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conv_dlm.cli.session.load_model", lambda *_, **__: pytest.fail("the model is loaded"))


def samples(folder: Path) -> dict[tuple[Any, ...], list[int]]:
    """Tokens by key."""
    lines = [line for file in folder.glob("samples-*.jsonl") for line in file.read_text().splitlines()]
    records = [record for record in map(json.loads, lines) if "index" in record]
    found = {tuple(record[name] for name in KEY): record["ids"] for record in records}
    assert len(found) == len(records), "a sample was made twice"
    return found


def table(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "table.json").read_text())["rows"])


def costless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


# --- a whole run ---


def test_from_prompts_to_table_and_plots(compare: Run, plots: None, tmp_path: Path, tiny_tokenizer: Any) -> None:
    scorer = tmp_path / "tiny-gpt2"
    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=260, n_positions=64)).save_pretrained(scorer)
    tiny_tokenizer.save_pretrained(scorer)
    outcome = compare(*GRID, "--answer-rules", "strict", "number", "--scorer", scorer)
    folder = tmp_path / "run"
    assert outcome.code == 0, outcome.err
    made = samples(folder)
    conv = set(itertools.product(["conv"], (2, 3), (4, 8), [""], (0, 1), range(3)))
    llada = set(itertools.product(["llada"], (2, 3), (4, None), [""], [0], range(3)))
    assert set(made) == conv | llada, "llada draws nothing; its block of 8 is the whole canvas"

    result = json.loads((folder / "table.json").read_text())
    assert [(row["decode_type"], row["steps"], row["size"], row["n"], row["prompts"]) for row in result["rows"]] == [
        (name, steps, size, n, 3)
        for steps in (2, 3)
        for name, size, n in (("conv", 4, 6), ("conv", 8, 6), ("llada", 4, 3), ("llada", None, 3))
    ]
    figures = {"accuracy_strict", "accuracy_number", "well_formed", "perplexity", "inliers", "log_prior", "seconds"}
    assert all(figures <= set(row) for row in result["rows"])
    assert set(result["references"]) == {"repeated_4grams", "tokens", "well_formed", "log_prior", "perplexity", "loops"}
    assert result["references"]["well_formed"][0] == 1
    assert result["settings"]["max_new_tokens"] == 8 and result["settings"]["model"] != str(tmp_path)
    (run,) = result["runs"]
    assert (run["processes"], run["batch_size"]) == (1, 2) and {"versions", "device", "date"} <= set(run)
    assert str(tmp_path) not in (folder / "table.json").read_text()

    assert (folder / "table.md").read_text().count("\n| `") == 8
    lines = outcome.out.splitlines()
    assert len(lines) == 10 and lines[0].startswith("decode type  steps  size  n") and "strict %" in lines[0]
    assert max(map(len, lines)) <= 100 and lines[-1].startswith("references")
    assert outcome.err == f"all figures: {folder}/table.md\n30 plots: {folder}/plots\n"
    names = {path.name for path in (folder / "plots").iterdir()}
    assert {"accuracy_strict_by_size.png", "perplexity_by_forwards.png", "mass_by_distance.png"} <= names
    assert json.loads((folder / "window.json").read_text())["model"]["n"] == 3


def test_generated_problems_are_checked_by_their_own_rules(compare: Run, tmp_path: Path) -> None:
    words = ("--questions", 3, "--level", "1-2", "--decode-types", "topk", "conv", "--sizes", 4, "--steps", 2)
    outcome = compare("--data", "word_problems", *words)
    assert outcome.code == 0, outcome.err
    result = json.loads((tmp_path / "run" / "table.json").read_text())
    measured = {"accuracy", "sound", "form", "equations", "first_step", "steps_right", "loops"}
    assert all(measured <= set(row) and row["accuracy"][0] == 0 for row in result["rows"])
    assert all(result["references"][name][0] == (name != "loops") for name in measured)
    assert measured <= set(result["less_topk"][0]), "prompt by prompt"
    assert "right, %" in (tmp_path / "run" / "table.md").read_text()
    other = compare("--data", "word_problems", *words, "--problem-seed", 1)
    assert other.code == 2 and "rows" in other.err
    refused = compare("--data", "word_problems", *words, "--answer-rules", "strict", name="other")
    assert refused.code == 2 and "checked by their own" in refused.err


def test_without_references_there_is_what_needs_none(compare: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "bare.jsonl", {"question": "one"}, {"question": "two"})
    outcome = compare("--data", data, "--field", "question", "--decode-types", "topk", "--steps", 2)
    assert outcome.code == 0 and "references" not in outcome.out
    assert {"repeated_4grams", "empty"} <= set(table(tmp_path / "run")[0])
    assert not {"log_prior", "well_formed"} & set(table(tmp_path / "run")[0])
    assert not (tmp_path / "run" / "window.json").exists()


def test_a_missing_matplotlib_costs_the_plots_only(
    compare: Run, plots: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "Plots need matplotlib: `pip install matplotlib`."

    def missing(*_: Any) -> None:
        raise ImportError(reason)

    monkeypatch.setattr("benchmarks.decoding_study.plots.quality_by_size", missing)
    outcome = compare("--decode-types", "topk", "--steps", 2)
    assert outcome.code == 0 and outcome.err.endswith(f"no plots: {reason}\n")
    assert len(table(tmp_path / "run")) == 1


def test_a_sample_depends_on_its_prompt_and_seed_alone(compare: Run, tmp_path: Path) -> None:
    options = ("--decode-types", "categorical", "conv", "--steps", 2, "--sizes", 4, "--seeds", 0, 1)
    for batch_size in (1, 4):
        assert compare(*options, "--batch-size", batch_size, name=f"by{batch_size}").code == 0
    one, four = (samples(tmp_path / name) for name in ("by1", "by4"))
    assert one == four
    assert one["categorical", 2, None, "", 0, 0] != one["categorical", 2, None, "", 1, 0]


# --- going on ---


def test_an_interrupted_run_is_fair_and_goes_on(compare: Run, tmp_path: Path, asked: Asked) -> None:
    compare(*GRID, name="whole")
    folder = tmp_path / "run"
    asked.counts, asked.limit = [], 12
    outcome = compare(*GRID)
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err == f"interrupted: 24 of 36 samples are in {folder}; the same command resumes from there\n"

    asked.limit = 0
    outcome = compare(*GRID, "--minutes", 0)
    assert outcome.code == 0
    assert outcome.err.startswith("24 of 36 samples are there; the same command resumes from here\n")
    assert [row["n"] for row in table(folder)] == [4, 4, 2, 2] * 2, "two of three prompts in all settings"

    asked.counts, asked.limit = [], None
    first = (folder / "samples-0.jsonl").read_bytes()
    assert compare(*GRID).code == 0
    assert asked.counts == [1] * 12, "the third prompt only"
    assert (folder / "samples-0.jsonl").read_bytes().startswith(first)
    assert samples(folder) == samples(tmp_path / "whole")
    assert costless(table(folder)) == costless(table(tmp_path / "whole"))

    asked.counts = []
    before = (folder / "samples-0.jsonl").read_bytes()
    assert compare(*GRID).code == 0
    assert asked.counts == [] and (folder / "samples-0.jsonl").read_bytes() == before


def test_a_grid_grows(compare: Run, tmp_path: Path, asked: Asked) -> None:
    """With types of other defaults too: conv draws, llada does not."""
    assert compare("--decode-types", "conv", "--steps", 2, "--sizes", 4).code == 0
    assert sum(asked.counts) == 3
    assert compare("--decode-types", "llada", "conv", "--steps", 2, 3, "--sizes", 4, "--seeds", 1, 0).code == 0
    assert sum(asked.counts) == 3 + 9 + 6
    assert compare("--decode-types", "conv", "llada", "--steps", 3, "--sizes", 4, 8, "--seeds", 7).code == 0
    assert sum(asked.counts) == 18 + 6 + 3, "llada's block of 4 needs no other seed"
    assert [(row["decode_type"], row["steps"], row["size"], row["n"]) for row in table(tmp_path / "run")] == [
        ("conv", 2, 4, 6), ("llada", 2, 4, 3), ("conv", 3, 4, 9), ("conv", 3, 8, 3), ("llada", 3, 4, 3),
        ("llada", 3, None, 3),
    ]  # fmt: skip


def test_no_time_and_no_sample(compare: Run, tmp_path: Path, asked: Asked) -> None:
    outcome = compare(*GRID, "--minutes", 0, "--scorer", "nowhere/nothing")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "0 of 36 samples are there; the same command resumes from here\n"
    assert not asked.counts and not (tmp_path / "run" / "table.json").exists()


def test_redrawing_needs_no_forward(
    compare: Run, plots: None, tiny_llada: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare("--decode-types", "topk", "--steps", 2)
    (tmp_path / "run" / "plots" / "mass_by_distance.png").unlink()
    monkeypatch.setattr(type(tiny_llada), "forward", lambda *_, **__: pytest.fail("a forward"))
    outcome = compare("--decode-types", "topk", "--steps", 2, "--answer-rules", "strict")
    assert outcome.code == 0 and "strict" in outcome.out
    assert (tmp_path / "run" / "plots" / "mass_by_distance.png").exists()


def test_processes_share_the_work(compare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(*GRID, name="one")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    outcome = compare(*GRID)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", ""), "the first one speaks for all"
    folder = tmp_path / "run"
    assert len(samples(folder)) == 18 and not (folder / "table.json").exists()
    monkeypatch.setenv("RANK", "0")
    assert compare(*GRID).code == 0
    assert samples(folder) == samples(tmp_path / "one")
    assert costless(table(folder)) == costless(table(tmp_path / "one"))
    runs = json.loads((folder / "table.json").read_text())["runs"]
    assert sorted(run["process"] for run in runs) == [0, 1]


# --- what can't be done ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--decode-types", "topkk"), "--decode-types: `decode_type`='topkk' does not exist; did you mean 'topk'?"),
        (("--steps", 4, 0), "`--steps`=0 must be at least 1."),
        (("--sizes", -8), "`--sizes`=-8 must be at least 1."),
        (("--batch-size", 0), "`--batch-size`=0 must be at least 1."),
        (("--minutes", -1), "`--minutes`=-1 must not be negative."),
        (("--max-new-tokens", 0), "`--max-new-tokens`=0 leaves no room for an answer"),
        (("--temperature", -1), "`temperature`=-1.0 must be between 0 and"),
        (("--tokens-per-step", 4, 0), "`--tokens-per-step`=0 must be at least 1."),
        (("--steps", 4, "--tokens-per-step", 4), "not allowed with argument --steps"),
        (("--vary", "steps", 4), "`--vary steps` is no setting that a grid can vary; these are: "),
        (("--vary", "lookahead"), "`--vary lookahead` has no value"),
        (("--vary", "lookahead", "far"), "`--vary lookahead far`: 'far' is not of the kind int."),
        (("--vary", "lookahead", 0), "`lookahead`=0 must be a whole number of at least 1"),
        (("--vary", "lookahead", 4, "--lookahead", 4), "`--vary` has `lookahead`, and it is given as an option too"),
        (("--decode-types", "topk", "--vary", "conv-mult", 2), "`conv_mult`=[2.0] has no effect with topk; drop"),
        (("--decode-types", "topk", "llada", "--conv-mult", 2), "`conv_mult`=2.0 has no effect with topk llada; drop"),
        (("--questions", 4), "`questions`=4 must be between 1 and 3"),
        (("--field", "question"), "prompts.jsonl, line 1: no text in field 'question'; it has ['prompt', 'reference']"),
        (("--answer-rules", "exact"), "`answer_rules`: 'exact' is none of ['flexible', 'number', 'paper', 'strict']"),
        (("--answer-rules", "strict", "--reference-field", "answer"), "line 1: no text in field 'answer'"),
        (("--data", "nowhere.jsonl"), "No such file or directory: 'nowhere.jsonl'"),
        (("--output", "."), "and no run. Name another folder"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_is_loaded(
    compare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_is_loaded: None, words: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = compare(*words)
    assert outcome.code == 2 and message in outcome.err
    assert len(outcome.err.splitlines()) == 1 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ([{"prompt": "a"}, '{"prompt": "b"'], (), "data.jsonl, line 2: not JSON: "),
        ([{"prompt": "a"}, {"prompt": 3}], (), "data.jsonl, line 2: no text in field 'prompt'"),
        ([{"prompt": "a", "reference": "b"}, {"prompt": "c"}], (), "data.jsonl: row 1 has no 'reference', as 1 other"),
        ([{"prompt": "a", "reference": None}], (), "line 1: no text in field 'reference'"),
        ([{"prompt": "a", "reference": "b"}], ("--answer-rules", "number"), "line 1: `reference`='b' holds no number"),
        ([{"prompt": "a"}], ("--answer-rules", "strict"), "line 1: no text in field 'reference'; it has ['prompt']"),
        ([], (), "data.jsonl holds no rows"),
    ],
)
def test_malformed_rows_are_named(
    compare: Run, tmp_path: Path, nothing_is_loaded: None, rows: list[Any], words: Any, message: str
) -> None:
    outcome = compare("--data", write(tmp_path / "data.jsonl", *rows), *words)
    assert outcome.code == 2 and message in outcome.err and len(outcome.err.splitlines()) == 1


def test_malformed_rows_are_left_out_on_request(compare: Run, tmp_path: Path) -> None:
    data = write(tmp_path / "data.jsonl", {"prompt": "a"}, '{"prompt": "b"', {"prompt": "c"})
    outcome = compare("--data", data, "--skip-malformed", "--decode-types", "topk", "--steps", 2)
    assert outcome.code == 0 and table(tmp_path / "run")[0]["n"] == 2
    assert re.search(r"^left out: .*data\.jsonl, line 2: not JSON: ", outcome.err)


def test_samples_of_another_run_are_refused(compare: Run, tmp_path: Path, prompts: Path, asked: Asked) -> None:
    few = ("--decode-types", "topk", "--steps", 2)
    compare(*few)
    before, asked.limit = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}, 0
    outcome = compare(*few, "--temperature", 0.5, "--system", "be brief")
    assert outcome.code == 2
    assert "another run (system: None, now 'be brief'; temperature: None, now 0.5). Name another folder" in outcome.err
    write(prompts, {"prompt": "other", "reference": "#### 1"})
    assert "another run (rows: {'count': 3, " in compare(*few).err
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}


def test_blocks_that_outnumber_the_steps_are_left_out_and_told(compare: Run, tmp_path: Path) -> None:
    outcome = compare("--decode-types", "semi_ar", "--steps", 2, "--sizes", 2, 4)
    assert outcome.err.startswith("left out: semi_ar, 2 steps, size 2: 8 tokens have more blocks than steps\n")
    assert [(row["decode_type"], row["size"]) for row in table(tmp_path / "run")] == [("semi_ar", 4)]
    outcome = compare("--decode-types", "semi_ar", "--steps", 2, "--sizes", 2)
    assert outcome.code == 2 and "Nothing can be compared (semi_ar, 2 steps, size 2: " in outcome.err


def test_a_grid_varies_any_setting(compare: Run, tmp_path: Path, asked: Asked) -> None:
    few = ("--decode-types", "topk", "remdm", "--tokens-per-step", 4)
    assert compare(*few).code == 0
    varied = ("--vary", "temperature", "none", 0, "--vary", "t-on", "none", 0.04)
    outcome = compare(*few, *varied)
    assert outcome.err.startswith("left out: remdm, 2 steps, t_on=0.04: "), "what can't be is told, the rest is done"
    assert "left out: remdm, 2 steps, temperature=0.0, t_on=0.04: " in outcome.err
    rows = [(row["decode_type"], row["steps"], row["varied"]) for row in table(tmp_path / "run")]
    assert rows == [("topk", 2, ""), ("topk", 2, "temperature=0.0"), ("remdm", 2, ""), ("remdm", 2, "temperature=0.0")]
    assert sum(asked.counts) == 4 * 3, "what is there already is not made again"
    made = samples(tmp_path / "run")
    assert any(made["topk", 2, None, "", 0, i] != made["topk", 2, None, "temperature=0.0", 0, i] for i in range(3))
    text = (tmp_path / "run" / "table.md").read_text()
    assert "| `topk`, temperature=0.0 | 2 |" in text and "| less the same unvaried | steps |" in text


def test_options_of_a_setting_that_contradict_each_other(compare: Run, asked: Asked, tmp_path: Path) -> None:
    outcome = compare("--decode-types", "topk", "remdm", "--steps", 2, "--t-on", 0.04)
    assert outcome.code == 2 and "`t_off`=0.05 must be below `t_on`=0.04" in outcome.err
    assert not asked.counts and not (tmp_path / "run").exists()


def test_an_option_goes_to_the_types_that_read_it(compare: Run, tmp_path: Path) -> None:
    assert compare("--decode-types", "topk", "conv", "--steps", 2, "--sizes", 4, "--conv-mult", 0.5).code == 0
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["conv_mult"] == 0.5
    assert len(table(tmp_path / "run")) == 2


def test_a_scorer_that_is_none_is_told_before_anything_is_answered(compare: Run, asked: Asked, tmp_path: Path) -> None:
    outcome = compare("--decode-types", "topk", "--steps", 2, "--scorer", tmp_path / "nothing.gguf")
    assert outcome.code == 2 and "nothing.gguf" in outcome.err and not asked.counts


def test_help(run: Run) -> None:
    outcome = run("--help")
    usage = "usage: python -m benchmarks.decoding_study --data FILE --output FOLDER [options]"
    assert outcome.code == 0 and outcome.out.startswith(usage)
    for words in ("grid:", "measures:", "decode types:", "examples:", "--minutes X", "(default: 8 16 32 64)"):
        assert words in outcome.out
    for varied in ("--decode-type ", "--kernel-size", "--block-length", "--seed "):
        assert varied not in outcome.out


def test_a_bar_begins_at_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            shown.append(options)

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: Any) -> None:
            shown.append("closed")

        def update(self, count: int) -> None:
            shown.append(count)

    monkeypatch.setattr("tqdm.tqdm", Bar)
    pieces = with_progress([[1, 2], [3]], len, "sample", done=4)
    assert next(pieces) == [1, 2] and shown[1:] == []
    assert list(pieces) == [[3]] and shown[1:] == [2, 1, "closed"]
    assert (shown[0]["total"], shown[0]["initial"], shown[0]["unit"], shown[0]["disable"]) == (7, 4, "sample", None)
    list(with_progress([[1]], len, "sample", quiet=True))
    assert shown[4]["disable"] is True
