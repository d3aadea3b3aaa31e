"""`trainers.r2ft` in two processes, from a model on disk to a model on disk."""

from pathlib import Path

import pytest
import torch

from tests.ranks import in_ranks, run_program
from tests.trainers.launching import ROOT, log_of, weights_of
from tests.trainers.stand_ins import arguments, write_models, write_rows
from trainers.r2ft import make_parser

RECIPE = ROOT / "configs" / "embedded" / "r2ft.yaml"


def test_the_command_line_overrides_the_file() -> None:
    words = ["--config", str(RECIPE), "--max_z", "40", "--corruption", "naive"]
    _, training, _, _ = make_parser().parse_args_and_config(words)
    assert (training.max_z, training.corruption, training.beta_a) == (40, "naive", 0.1)


@pytest.mark.parametrize(
    ("line", "message"),
    [("max_z: 30", "`max_z`=30"), ("corruption: repaet", "corruption='repaet'"), ("eos_p: 2", "`eos_p`=2")],
)
def test_wrong_values_in_a_file_are_named(line: str, message: str, tmp_path: Path) -> None:
    key = line.split(":")[0]
    lines = [line if old.startswith(f"{key}:") else old for old in RECIPE.read_text().splitlines()]
    path = tmp_path / "wrong.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        make_parser().parse_args_and_config(["--config", str(path)])


def test_two_processes_train_evaluate_and_save(tmp_path: Path) -> None:
    models = write_models(tmp_path)
    start = models["outputs/embedded/first-eos"] = models["outputs/embedded/diffusion"]
    out = tmp_path / "out"
    in_ranks("cpu", 2, run_program, "trainers.r2ft", arguments(RECIPE, models, write_rows(tmp_path), out))
    before, after = weights_of(Path(start)), weights_of(out)
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    log = log_of(out / "checkpoint-2")
    assert [entry["step"] for entry in log if "eval_logps/chosen" in entry] == [0, 1, 2]
    assert [entry["step"] for entry in log if "logps/rejected" in entry] == [1, 2]
    assert (out / "checkpoint-2" / "rng_state_1.pth").is_file()
