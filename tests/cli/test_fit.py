"""`conv-dlm fit`: numbers from the config alone, a verdict for each, and what would fit."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import conv_dlm.cost.report
from conv_dlm.answering.embedded import EMBEDDED_NAME
from conv_dlm.cli import main
from conv_dlm.cost.counting import GenerationMemory, GenerationStep
from conv_dlm.cost.device_memory import GIB, verdict
from conv_dlm.cost.report import MemoryRow

Run = Any


def report(run: Run, *words: object) -> Any:
    outcome = run("fit", *words, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


@pytest.fixture
def one_row_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables have a row each: a count takes some tenths of a second, and the others are made in the same way."""
    monkeypatch.setattr(conv_dlm.cost.report, "GENERATING", ("float32",))
    monkeypatch.setattr(conv_dlm.cost.report, "TRAINING", {"bfloat16": "LoRA"})


LLADA_8B = ("--shape", "llada-8b", "--memory", "16", "--max-new-tokens", "512")
PARTS = ("generate", "train")
NOTHING_FITS = 1e-6  # so that nothing is searched for, which takes more counts


@pytest.mark.usefixtures("one_row_each")
def test_a_folder_needs_no_weights(run: Run, tiny_checkpoint: Path, tiny_llada: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_checkpoint / "config.json").read_text())
    outcome = run("fit", tmp_path, "--prompt-tokens", 8, "--max-new-tokens", 8, "--memory", NOTHING_FITS)
    assert outcome.code == 0
    assert f"{sum(p.numel() for p in tiny_llada.parameters()):,} parameters" in outcome.out
    assert outcome.out.splitlines()[1].startswith("cuda: ")


@pytest.mark.usefixtures("one_row_each")
def test_the_embedded_model_on_the_device_at_hand(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_dlm.cost.report, "largest", lambda *_: 1)  # of so much memory, many are looked at
    told = report(run, "--device", "cpu")
    assert (told["model"], told["device"]) == (EMBEDDED_NAME, "cpu")
    assert told["parameters"] == 5_639_424 and told["free"] > 0


@pytest.mark.usefixtures("one_row_each")
def test_an_adapter_is_its_base_models(run: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny_checkpoint)}))
    words = ("--prompt-tokens", 8, "--max-new-tokens", 8, "--memory", NOTHING_FITS)
    assert report(run, tmp_path, *words)["parameters"] == report(run, tiny_checkpoint, *words)["parameters"]


@pytest.fixture(scope="module")
def of_8b() -> Any:
    """A report of all rows: what the command prints of LLaDA-8B's shape as JSON; sizes that fit are searched below."""
    with contextlib.redirect_stdout(io.StringIO()) as told, pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_dlm.cost.report, "largest", lambda *_: 1)
        assert main(["fit", *LLADA_8B, "--json"]) == 0
    return json.loads(told.getvalue())


def test_rows_and_sums(of_8b: Any) -> None:
    told = of_8b
    assert told["parameters"] == 8_015_581_184
    assert [row["storage"] for row in told["generate"]] == ["float32", "bfloat16", "8bit", "4bit"]
    assert [(row["storage"], row["checkpointing"]) for row in told["train"]] == [
        ("bfloat16", True), ("bfloat16", False), ("nf4", True), ("nf4", False)
    ]  # fmt: skip
    for row in told["generate"] + told["train"]:
        assert row["total"] == pytest.approx(sum(row[part] for part in ("weights", "activations", "cache", "adapters")))
        share = row["total"] / (16 * GIB)
        assert row["verdict"] == ("fits" if share <= 0.85 else "tight" if share <= 0.97 else "does not")
    assert {row["verdict"] for row in told["generate"]} == {"fits", "tight", "does not"}


def test_options_change_what_is_needed(run: Run, tiny_checkpoint: Path) -> None:
    base = (tiny_checkpoint, "--memory", NOTHING_FITS, "--max-new-tokens", 64, "--prompt-tokens", 64)
    plain = report(run, *base)
    more = ("--cache-implementation", "dual", "--guidance-scale", 1.5, "--batch-size", 2, "--lora-r", 16)
    other = report(run, *base, *more)
    assert plain["generate"][1]["cache"] == 0
    assert other["generate"][1]["cache"] == 2 * 2 * 32 * (2 * 2 * 128) * 2  # guidance doubles the two rows
    assert other["train"][1]["activations"] > plain["train"][1]["activations"]
    assert 4 * other["train"][0]["adapters"] == plain["train"][0]["adapters"]


@pytest.mark.usefixtures("one_row_each")
def test_what_is_said_to_fit_fits(run: Run, tiny_checkpoint: Path) -> None:
    words = ("--device", "cuda", "--memory", 0.01, "--prompt-tokens", 64, "--batch-size", 64)
    told = run("fit", tiny_checkpoint, *words).out
    named = re.search(r"^float32 would fit with --batch-size (\d+) or --max-new-tokens (\d+)$", told, re.MULTILINE)
    assert named is not None, told
    batch, length = map(int, named.groups())
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_checkpoint))
    memory = GenerationMemory(model, "float32")

    def fits(rows: int, new_tokens: int) -> bool:
        return verdict(memory.total(GenerationStep(rows, 64, new_tokens)), 0.01 * GIB) == "fits"

    assert fits(batch, 128) and not fits(batch + 1, 128)
    assert fits(64, length) and not fits(64, length + 1)
    assert re.search(r"^LoRA, checkpointing would fit with --batch-size \d+", told, re.MULTILINE)


def test_the_table(run: Run, of_8b: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same rows, which aren't counted again."""
    rows = [[MemoryRow(**{k: v for k, v in row.items() if k != "total"}) for row in of_8b[part]] for part in PARTS]
    monkeypatch.setattr(conv_dlm.cost.report, "generating", lambda *_: rows[0])
    monkeypatch.setattr(conv_dlm.cost.report, "training_adapters", lambda *_: rows[1])
    lines = run("fit", *LLADA_8B).out.splitlines()
    assert lines[:3] == [
        "llada-8b: 8,015,581,184 parameters",
        "cuda: 16.0 GiB free",
        "batch size 1, 128 + 512 positions; sizes in GiB",
    ]
    shown = {line.split("  ")[0]: line for line in lines if re.search(r"(fits|tight|does not) +[-\d]+$", line)}
    assert list(shown) == [
        "float32", "bf16", "8-bit", "4-bit", "LoRA, checkpointing", "LoRA", "QLoRA, checkpointing", "QLoRA"
    ]  # fmt: skip
    assert len({len(line) for line in shown.values()}) == 1
    assert re.search(r"  tight +-$", shown["bf16"]) and re.search(r"  fits +\d+$", shown["4-bit"])
    assert lines[-3:] == ["float32 fits at no size", "LoRA, checkpointing fits at no size", "LoRA fits at no size"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shape", "llada"), "invalid choice: 'llada'"),
        (("--max-new-tokens", -1), "`--max-new-tokens`=-1 must be at least 1"),
        (("--prompt-tokens", -1), "`--prompt-tokens`=-1 must be at least 0"),
        (("--batch-size", 0), "`--batch-size`=0 must be at least 1"),
        (("--batch-size", 10**30), "must be below 2147483648"),
        (("--lora-r", 0), "`--lora-r`=0 must be at least 1"),
        (("--memory", 0), "`--memory`=0.0 must be above 0"),
        (("--guidance-scale", -1), "`--guidance-scale`=-1.0 must not be below 0"),
        (("--cache-implementation", "static"), "invalid choice: 'static'"),
        (("--max-new-tokens", 1000), "need a context of 1128, but the model's is 1024"),
        (("--device", "gpu"), "`device`='gpu' cannot be used here"),
        (("--device", "gpu", "--memory", 8), "`--device`=gpu is no device"),
        (("--device", "auto"), "`--device`=auto spreads over several devices"),
        (("--device", "meta"), "doesn't tell how much memory is free"),
        (("./nowhere",), "'./nowhere': there is no such folder"),
        (("nobody/nothing",), "nobody/nothing cannot be loaded: "),
        (("some/model", "--shape", "llada-8b"), "`--shape`=llada-8b is a model already"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_mistakes_are_told_in_one_line(run: Run, words: tuple[object, ...], said: str) -> None:
    outcome = run("fit", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err and outcome.err.count("\n") == 1
