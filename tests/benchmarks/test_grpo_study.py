"""python -m benchmarks.grpo_study: a plan of equal minutes, runs that go on, and the table. Trainings are made up."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import grpo_study

ROOT = Path(grpo_study.__file__).parents[1]
SECONDS = {"one_step": 2.0, "elbo": 5.0}
ACCURACY = {"before": 0.4, "one_step": 0.5, "elbo": 0.45}


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the study with launches that only leave what a training leaves; returns their words."""
    launched: list[list[str]] = []

    def start(module: str, *said: Any, launcher: Any) -> None:
        assert module == "trainers.grpo" and "accelerate.commands.launch" in launcher
        words = [str(word) for word in said]
        launched.append(words)
        options = dict(itertools.pairwise(words))
        folder, steps = Path(options["--output_dir"]), int(options["--max_steps"])
        name = options["--log_prob_estimate"]
        (folder / f"checkpoint-{steps}").mkdir(parents=True)
        log = [{"step": n, "step_time": 9.0 if n == 1 else SECONDS[name], "reward": n} for n in range(1, steps + 1)]
        (folder / f"checkpoint-{steps}" / "trainer_state.json").write_text(json.dumps({"log_history": log}))
        (folder / "config.json").write_text("{}")

    recipe = yaml.safe_load((ROOT / "configs/grpo/embedded.yaml").read_text())

    def evaluated(folder: Path, words: list[Any]) -> dict[str, Any]:
        said = dict(itertools.pairwise(words))
        assert said["--level"] == "{}-{}".format(*recipe["problem_levels"])
        assert said["--max-new-tokens"] == recipe["max_completion_length"]
        assert said["--kernel-size"] == recipe["rollout_kwargs"]["kernel_size"] and "--eos-fill" in words
        return {"accuracy": [ACCURACY[folder.name], 0.03], "forwards": [20.0, 1.0]}

    monkeypatch.setattr(grpo_study, "start", start)
    monkeypatch.setattr(grpo_study, "evaluated", evaluated)

    def study(*more: str) -> list[list[str]]:
        launched.clear()
        words = ["--config", str(ROOT / "configs/grpo/embedded.yaml"), "--seconds", "300", "--output", str(tmp_path)]
        words += ["--estimates", "one_step", "elbo", *more]
        grpo_study.main(words)
        return list(launched)

    return study


def test_each_trains_for_as_long_and_nothing_is_repeated(study: Any, tmp_path: Path, capsys: Any) -> None:
    launches = study()
    steps = [words[words.index("--max_steps") + 1] for words in launches]
    assert steps == ["4", "4", "150", "60"]  # 300 s over 2 and 5 s, in multiples of the recipe's 10 from save to save
    assert launches[3][launches[3].index("--elbo_points") :][:2] == ["--elbo_points", "2"]
    shown = capsys.readouterr().out
    assert "| `one_step` | 150 | 145.50 | 50.0 ± 3.0 | +10.0 ± 4.2 | 20.0 ± 1.0 |" in shown.splitlines()
    assert (tmp_path / "table.md").read_text() in shown
    assert study() == []


def test_an_interrupted_training_goes_on(study: Any, tmp_path: Path) -> None:
    study()
    (tmp_path / "elbo" / "config.json").unlink()
    (tmp_path / "elbo" / "checkpoint-60").rename(tmp_path / "elbo" / "checkpoint-30")
    (words,) = study("--options", "--seed", "3")
    assert words[-2:] == ["--resume_from_checkpoint", "true"] and words[words.index("--seed") :][:2] == ["--seed", "3"]


def test_the_trainer_knows_all_variants(tmp_path: Path) -> None:
    from trainers.grpo import make_parser

    for words in grpo_study.VARIANTS.values():
        recipe = ["--config", str(ROOT / "configs/grpo/embedded.yaml"), "--output_dir", str(tmp_path)]
        _, training, _, _ = make_parser().parse_args_and_config([*recipe, *words])
        assert training.estimate()
