"""The two sides of the speed benchmark do the same work, and its clock and memory meter measure."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import step_overhead
from benchmarks.step_overhead import make_model, make_parser, make_prompt
from conv_dlm.cost import meters
from conv_dlm.cost.baselines import conv_loop, llada_loop
from conv_dlm.cost.meters import PeakMemory, Stopwatch
from tests.forks import in_fork

SMALL = "--vocabulary 300 --width 32 --prompt 6 --new-tokens 128 --steps 4 --repeats 1 --batch-sizes 2 --no-memory"


@pytest.fixture
def args() -> Any:
    return make_parser().parse_args(SMALL.split())


@pytest.mark.parametrize("block_length", [8, 24])
def test_textbook_llada_writes_what_ours_does(make_llada: Any, block_length: int) -> None:
    model = make_llada(eos_token_id=None)
    prompt = torch.randint(5, 250, (2, 7), generator=torch.Generator().manual_seed(0))
    settings = {"steps": 9, "block_length": block_length}

    @torch.no_grad()
    def forward(ids: torch.Tensor) -> torch.Tensor:
        return model(input_ids=ids).logits.index_fill(2, torch.tensor(3), -99.0)  # no mask, as if trained

    theirs = llada_loop(forward, prompt, 3, 24, **settings)
    ours = model.generate(prompt, decode_type="llada", max_new_tokens=24, **settings)
    assert torch.equal(theirs, ours)


def test_textbook_conv_decides_near_known_text_first() -> None:
    torch.manual_seed(0)  # the textbook draws from the global generator
    prompt, seen = torch.full((2, 5), 7), []

    def forward(ids: torch.Tensor) -> torch.Tensor:
        seen.append(ids == 3)
        return torch.randn(2, 85, 20, generator=torch.Generator().manual_seed(0))

    out = conv_loop(forward, prompt, 3, new_tokens=80, steps=40, kernel_size=9, top_k=2)
    assert torch.equal(out[:, :5], prompt)
    masks = torch.stack([*seen, out == 3]).sum(-1)
    assert bool((masks.diff(dim=0) <= 0).all())
    assert bool((masks[-1] < 20).all())
    known, masked_next = ~seen[0], seen[1]
    reach = torch.nn.functional.max_pool1d(known.float()[:, None], 9, 1, 4)[:, 0] > 0
    assert bool(masked_next[~reach].all())
    assert not bool(masked_next[reach & seen[0]].all()), "a step of 40 decides some of what is in reach"


def test_both_sides_run_and_are_reported(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    step_overhead.main([*SMALL.split(), "--results", str(results)])
    report = json.loads(results.read_text())
    assert {(row["model"], row["case"]) for row in report["cases"]} == {
        (kind, case) for kind in ("stub", "small") for case in step_overhead.CASES
    }
    assert report["settings"]["clock"] == "CPU time of the process"
    for row in report["cases"]:
        assert row["textbook"]["forwards"] == 4
        assert row["ours"]["forwards"] >= 4
        for side in (row["ours"], row["textbook"]):
            assert side["total_s"] == pytest.approx(side["model_s"] + side["loop_s"], abs=1e-3)


def test_the_stub_looks_up_what_it_is_asked_for(args: Any) -> None:
    stub, ids = make_model("stub", args), torch.zeros(2, 134, dtype=torch.long)
    everything = stub(ids).logits
    assert everything.shape == (2, 134, 300)
    window = torch.tensor([[3, 70], [133, 0]])
    assert torch.equal(stub(ids, logits_to_keep=window).logits, everything[torch.arange(2)[:, None], window])


def test_the_stopwatch_tells_the_model_from_the_loop(args: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 4.0, 5.0, 7.0, 10.0])  # forwards from 1 to 4 and from 5 to 7
    monkeypatch.setattr(meters, "time", SimpleNamespace(process_time=lambda: next(clock)))
    model, prompt = make_model("stub", args), make_prompt(1, args)
    times = Stopwatch(model, torch.device("cpu")).run(lambda: (model(prompt), model(prompt)))
    assert times == {"total_s": 10.0, "model_s": 5.0, "loop_s": 5.0, "forwards": 2}


def peaks() -> tuple[float, float]:
    """While a tensor of 64 MiB was made and freed, and after."""
    peak = PeakMemory(torch.device("cpu"))
    torch.ones(64 * 2**20, dtype=torch.uint8).max()
    return peak.in_mb(), PeakMemory(torch.device("cpu")).in_mb()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_sees_what_is_freed_again() -> None:
    """In a process where nothing else goes on."""
    first, second = in_fork(peaks)
    assert first == pytest.approx(67, abs=10)
    assert second < 10
