"""`conv-dlm fit`: numbers from the config alone, a verdict for each, and what would fit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from conv_dlm.cost.device_memory import GIB

Run = Any


def report(run: Run, *words: object) -> Any:
    outcome = run("fit", *words, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


@pytest.mark.parametrize(
    ("shape", "parameters"), [("llada-8b", 8_015_581_184), ("mdlm-small", 169_627_218), ("embedded", 111_037_248)]
)
def test_parameters(run: Run, shape: str, parameters: int) -> None:
    assert report(run, "--shape", shape, "--memory", 24)["parameters"] == parameters


def test_a_folder_needs_no_weights(run: Run, tiny_checkpoint: Path, tiny_llada: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_checkpoint / "config.json").read_text())
    outcome = run("fit", tmp_path, "--prompt-tokens", 8, "--max-new-tokens", 8)
    assert outcome.code == 0
    assert f"{sum(p.numel() for p in tiny_llada.parameters()):,} parameters" in outcome.out
    assert outcome.out.splitlines()[1].startswith("cpu: ")


def test_the_embedded_model_on_the_device_at_hand(run: Run) -> None:
    told = report(run, "--device", "cpu")
    assert (told["model"], told["device"]) == ("conv-dlm-gsm8k", "cpu")
    assert told["parameters"] == 111_037_248 and told["free"] > 0


def test_an_adapter_is_its_base_models(run: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny_checkpoint)}))
    told = report(run, tmp_path, "--prompt-tokens", 8, "--max-new-tokens", 8)
    assert told["parameters"] == report(run, tiny_checkpoint, "--max-new-tokens", 8)["parameters"]


def test_rows_and_sums(run: Run) -> None:
    told = report(run, "--shape", "llada-8b", "--memory", 24, "--max-new-tokens", 512)
    assert [row["storage"] for row in told["generate"]] == ["float32", "bfloat16", "8bit", "4bit"]
    assert [(row["storage"], row["checkpointing"]) for row in told["train"]] == [
        ("bfloat16", True), ("bfloat16", False), ("nf4", True), ("nf4", False)
    ]  # fmt: skip
    for row in told["generate"] + told["train"]:
        assert row["total"] == pytest.approx(sum(row[part] for part in ("weights", "activations", "cache", "adapters")))
        share = row["total"] / (24 * GIB)
        assert row["verdict"] == ("fits" if share <= 0.85 else "tight" if share <= 0.97 else "does not")
    assert {row["verdict"] for row in told["generate"]} == {"fits", "does not"}


def test_options_change_what_is_needed(run: Run) -> None:
    base = ("--shape", "llada-8b", "--memory", 24, "--max-new-tokens", 512)
    plain = report(run, *base)
    kept = report(run, *base, "--cache-implementation", "dual")["generate"][1]
    assert plain["generate"][1]["cache"] == 0 and kept["cache"] == 2 * 32 * 4096 * 640 * 2
    guided = report(run, *base, "--cache-implementation", "dual", "--guidance-scale", 1.5)["generate"][1]
    assert guided["cache"] == 2 * kept["cache"] and guided["activations"] > kept["activations"]
    for option, value in {"--batch-size": 2, "--prompt-tokens": 2000, "--max-new-tokens": 1024}.items():
        changed = report(run, *base, option, value)
        assert changed["generate"][1]["activations"] > plain["generate"][1]["activations"], option
        assert changed["train"][1]["activations"] > plain["train"][1]["activations"], option
    assert 4 * report(run, *base, "--lora-r", 16)["train"][0]["adapters"] == plain["train"][0]["adapters"]
    on_cpu = report(run, *base, "--device", "cpu")["train"][1]["activations"]  # dropout masks are wider there
    assert on_cpu > plain["train"][1]["activations"]


@pytest.mark.parametrize(
    ("label", "part", "index"),
    [("float32", "generate", 0), ("LoRA, checkpointing", "train", 0)],
    ids=["float32", "LoRA"],
)
def test_what_is_said_to_fit_fits(run: Run, label: str, part: str, index: int) -> None:
    base = ("--shape", "mdlm-small", "--memory", 2)
    told = run("fit", *base, "--batch-size", 64).out
    named = re.search(rf"^{label} would fit with --batch-size (\d+) or --max-new-tokens (\d+)$", told, re.MULTILINE)
    assert named is not None
    batch, length = map(int, named.groups())
    for rows, new_tokens, fits in (
        (batch, 128, True),
        (batch + 1, 128, False),
        (64, length, True),
        (64, length + 1, False),
    ):
        row = report(run, *base, "--batch-size", rows, "--max-new-tokens", new_tokens)[part][index]
        assert (row["verdict"] == "fits") is fits, (rows, new_tokens)


def test_the_table(run: Run) -> None:
    out = run("fit", "--shape", "llada-8b", "--memory", 16, "--max-new-tokens", 512).out
    lines = out.splitlines()
    assert lines[:3] == [
        "llada-8b: 8,015,581,184 parameters",
        "cuda: 16.0 GiB free",
        "batch size 1, 128 + 512 positions; sizes in GiB",
    ]
    rows = {line.split("  ")[0]: line for line in lines if re.search(r"(fits|tight|does not) +[-\d]+$", line)}
    assert list(rows) == [
        "float32", "bf16", "8-bit", "4-bit", "LoRA, checkpointing", "LoRA", "QLoRA, checkpointing", "QLoRA"
    ]  # fmt: skip
    assert len({len(line) for line in rows.values()}) == 1
    assert re.search(r"  tight +-$", rows["bf16"]) and re.search(r"  fits +\d+$", rows["4-bit"])
    assert lines[-3:] == ["float32 fits at no size", "LoRA, checkpointing fits at no size", "LoRA fits at no size"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shape", "llada"), "invalid choice: 'llada'"),
        (("--max-new-tokens", -1), "`--max-new-tokens`=-1 must be at least 1"),
        (("--prompt-tokens", -1), "`--prompt-tokens`=-1 must be at least 0"),
        (("--batch-size", 0), "`--batch-size`=0 must be at least 1"),
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
