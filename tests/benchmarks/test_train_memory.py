"""The memory formula holds against a count of all tensors, and what goes into it against what counts itself."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import train_memory
from benchmarks.live_memory import LiveMemory
from benchmarks.train_memory import LLADA_8B, Case, count, estimate, make_model, table
from conv_dlm.cost import training
from conv_dlm.cost.sizes import FOUR_BIT, NF4, Parameters, Shape
from conv_dlm.cost.training import TrainingStep, adapter_parameters
from conv_dlm.models import LLaDAConfig, MDLMConfig
from trainers import losses

TINY = Case(width=256, layers=3, inner=768, vocabulary=2000, rank=4, length=512, projected=8, mask_bytes=4)


def test_live_memory_sees_what_is_made_and_let_go() -> None:
    module = torch.nn.Linear(100, 10, bias=False)
    with LiveMemory(module) as memory:
        assert memory.now == 4000
        a = torch.ones(1000)
        b = a.view(10, 100) + 1
        assert memory.now == memory.peak == 4000 + 4000 + 4000
        del a, b
        assert memory.now == 4000
        y = module(torch.ones(5, 100))
        y.sum().backward()
    assert memory.peak >= 4000 + 2000 + 4000


def test_a_count_takes_no_memory_of_its_own() -> None:
    with FakeTensorMode(), LiveMemory(torch.nn.Identity()) as memory:
        x = torch.ones(10**6, 10**6)
        assert memory.now == x.nbytes == 4 * 10**12


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(("weights", "projected"), [("float32", 8), ("bfloat16", 512)])
def test_the_formula_agrees_with_the_count(weights: str, projected: int, checkpointing: bool) -> None:
    vocabulary = 2000 if projected == 8 else 60_000  # blocks decide, or logits
    case = replace(TINY, weights=weights, checkpointing=checkpointing, projected=projected, vocabulary=vocabulary)
    assert estimate(case)["peak"] == pytest.approx(count(case.config, case.step), rel=0.03)


OTHERS = {
    "grouped": LLaDAConfig(
        d_model=288, n_layers=3, n_heads=9, n_kv_heads=3, mlp_hidden_size=768, vocab_size=2000, weight_tying=True
    ),
    "mdlm": MDLMConfig(hidden_dim=256, n_blocks=4, n_heads=4, vocab_size=2000, cond_dim=32),
}


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OTHERS)
def test_the_formula_agrees_with_the_count_of_other_shapes(name: str, storage: str, checkpointing: bool) -> None:
    config = OTHERS[name]
    step = TrainingStep(
        rows=2, length=256, projected=8, rank=4, storage=storage, checkpointing=checkpointing, mask_bytes=4
    )
    parameters = Parameters.of(train_memory.bare_model(config))
    parts = training.estimate(Shape.of(config), parameters, step)
    activations = parts["peak"] - parts["weights"] - parts["adapters"]
    counted = count(config, step) - parts["weights"] - parts["adapters"]
    assert activations == pytest.approx(counted, rel=0.06)  # without the weights, which are exact


def test_the_loss_has_chunks_of_the_size_that_the_formula_has() -> None:
    assert losses._TokenLogProbs.CHUNK == training.CHUNK


def test_parameters_of_llada_8b_are_counted_right() -> None:
    model, parts = make_model(Case().config, Case().step, "meta"), estimate(Case())
    adapters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert adapters == adapter_parameters(Shape.of(Case().config), Case().rank)
    assert parts["weights"] == 2 * (sum(parameter.numel() for parameter in model.parameters()) - adapters)
    assert parts["adapters"] == 16 * adapters


@pytest.mark.parametrize(("nested", "bytes_each"), [(True, NF4), (False, FOUR_BIT)])
def test_four_bits_take_what_bitsandbytes_takes(nested: bool, bytes_each: float) -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    packed, state = functional.quantize_4bit(torch.randn(1024, 1024), quant_type="nf4", compress_statistics=nested)
    taken = packed.nbytes + state.absmax.nbytes + (state.state2.absmax.nbytes if nested else 0)
    assert taken / 2**20 == pytest.approx(bytes_each, rel=1e-3)


def test_the_table_of_the_documentation_is_the_formulas() -> None:
    rows = table([{"name": name, "estimate": estimate(case)} for name, case in LLADA_8B.items()])
    assert len(rows.splitlines()) == 2 + len(LLADA_8B)
    assert rows in (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text()


@pytest.mark.slow
def test_the_formula_is_within_a_tenth_of_the_measurement() -> None:
    case = train_memory.SMALL["narrow, many logits"]
    assert estimate(case)["peak"] == pytest.approx(train_memory.measure(case.config, case.step, "cpu"), rel=0.1)
