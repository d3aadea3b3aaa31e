"""One process and two: the same losses, metrics and weights, from noise that no two rows share."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from tests.ranks import in_ranks
from tests.trainers import some_processes
from trainers import MDLMTrainingConfig
from trainers.checkpoints import is_whole

Results = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run on one process and of one on two."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "model").symlink_to(tiny_checkpoint)
    rows = [
        {"prompt": f"What is {n} and {n}? " + "Say. " * (n % 3), "completion": f" It is {2 * n}."} for n in range(16)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    some_processes.train_all(folder)
    in_ranks("cpu", 2, some_processes.train_as_rank, folder, 2)
    return folder


@pytest.fixture(params=some_processes.TRAINERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def results(folder: Path, name: str, processes: int) -> list[Results]:
    return [torch.load(folder / f"{processes}-{name}-{rank}.pt") for rank in range(processes)]


def logged(result: Results) -> list[dict[str, float]]:
    """What was logged, without times."""
    return [{k: v for k, v in entry.items() if not k.endswith(("_second", "_runtime"))} for entry in result["log"]]


def test_two_processes_log_the_same(folder, name):
    """Losses, gradient norms, metrics, tokens; at evaluation also of a set that two ranks can't share evenly."""
    [one], two = results(folder, name, 1), results(folder, name, 2)
    for entry, other in zip(logged(one)[:-1], logged(two[0])[:-1], strict=True):  # the last one sums up
        assert other == pytest.approx(entry, rel=1e-3)
    assert [entry["step"] for entry in one["log"] if "eval_loss" in entry] == [3]
    assert all(math.isfinite(value) for entry in logged(one) for value in entry.values())


def test_two_processes_end_with_the_same_weights(folder, name):
    [one], two = results(folder, name, 1), results(folder, name, 2)
    for parameter, value in one["weights"].items():
        torch.testing.assert_close(two[0]["weights"][parameter], value, rtol=1e-4, atol=1e-5)
        assert torch.equal(two[0]["weights"][parameter], two[1]["weights"][parameter])


def test_each_row_of_the_global_batch_has_noise_of_its_own(folder, name):
    [one], two = results(folder, name, 1), results(folder, name, 2)

    def draws(runs: list[Results]) -> dict[tuple[int, int], tuple[float, ...]]:
        """By step and row of the global batch."""
        seen = [part for run in runs for part in run["seen"]]
        pairs = [((step, i), tuple(d.tolist())) for step, rows, draws in seen for i, d in zip(rows, draws, strict=True)]
        assert len(pairs) == len(dict(pairs)) == 3 * some_processes.GLOBAL_BATCH
        return dict(pairs)

    assert draws([one]) == draws(two)
    assert len(set(draws(two).values())) == 3 * some_processes.GLOBAL_BATCH


def test_two_processes_save_and_resume(folder, name):
    out = folder / f"2-{name}"
    assert all(is_whole(out / f"checkpoint-{step}") for step in (2, 3))
    assert (out / "checkpoint-3" / "rng_state_1.pth").is_file()
    for result in results(folder, name, 2):
        for parameter, value in result["weights"].items():
            assert torch.equal(result["resumed"][parameter], value)


def test_samples_are_decoded_once(folder, name):
    one, two = ((folder / f"{n}-{name}" / "samples.jsonl").read_text().splitlines() for n in (1, 2))
    assert len(one) == len(two) == 2
    assert [json.loads(line)["prompt"] for line in one] == [json.loads(line)["prompt"] for line in two]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="lists threads as Linux does")
def test_at_the_end_nothing_is_left_of_the_process_group(folder):
    """If anything held it longer, its threads would be waited for with the GIL held, and some wait for the GIL."""
    for rank in range(2):
        threads = json.loads((folder / f"2-threads-{rank}.json").read_text())
        assert threads["before"]
        assert threads["after"] == []


# One process is enough


def test_means_over_single_devices_are_refused(tmp_path):
    with pytest.raises(ValueError, match="average_tokens_across_devices=False"):
        MDLMTrainingConfig(output_dir=str(tmp_path), bf16=False, average_tokens_across_devices=False)


def test_the_order_of_evaluation_is_that_of_the_data(make_trainer):
    """Though training groups rows by length; else the noise of a row would depend on the seed of the run."""
    texts = Dataset.from_dict({"text": ["word " * (n * 5 % 7) + f"{n}." for n in range(12)]})
    runs = [
        make_trainer(eval_dataset=texts, per_device_eval_batch_size=3, train_sampling_strategy=strategy, seed=seed)
        for strategy, seed in (("random", 1), ("group_by_length", 2), ("group_by_length", 3))
    ]
    bounds = [run.evaluate()["eval_nelbo"] for run in runs]
    assert bounds[1:] == pytest.approx(bounds[:1] * 2, rel=1e-5)
