"""The count of `conv-dlm fit` agrees with one of the trainers' own loss, and the document shows it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import train_memory
from benchmarks.train_memory import LLADA_8B, Case, count, count_with_the_loss, table
from conv_dlm.cost import counting
from conv_dlm.cost.counting import TrainingStep
from conv_dlm.cost.sizes import FOUR_BIT, NF4
from conv_dlm.models import LLaDAConfig, MDLMConfig
from trainers import losses

STEP = TrainingStep(2, 256, 64, device_type="cpu")
CONFIGS = {
    "grouped": LLaDAConfig(
        d_model=288, n_layers=4, n_heads=9, n_kv_heads=3, mlp_hidden_size=768, vocab_size=60_000, weight_tying=True
    ),
    "mdlm": MDLMConfig(hidden_dim=256, n_blocks=4, n_heads=4, vocab_size=2000, cond_dim=32),
}


@pytest.mark.parametrize(
    ("name", "storage", "checkpointing"),  # each pair of two of them
    [
        ("grouped", "float32", True),
        ("grouped", "bfloat16", False),
        ("mdlm", "float32", False),
        ("mdlm", "bfloat16", True),
    ],
)
def test_the_count_agrees_with_one_of_the_loss_itself(name: str, storage: str, checkpointing: bool) -> None:
    case = Case(CONFIGS[name], storage, 4, replace(STEP, checkpointing=checkpointing))
    parts = count(case)
    beside = count_with_the_loss(case) - parts["weights"] - parts["adapters"]
    assert parts["activations"] == pytest.approx(beside, rel=0.01)


def test_the_loss_has_chunks_of_the_size_that_is_counted() -> None:
    assert losses._TokenLogProbs.CHUNK == counting.LOSS_AT_ONCE


@pytest.mark.parametrize(("nested", "bytes_each"), [(True, NF4), (False, FOUR_BIT)])
def test_four_bits_take_what_bitsandbytes_takes(nested: bool, bytes_each: float) -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    packed, state = functional.quantize_4bit(torch.randn(1024, 1024), quant_type="nf4", compress_statistics=nested)
    taken = packed.nbytes + state.absmax.nbytes + (state.state2.absmax.nbytes if nested else 0)
    assert taken / 2**20 == pytest.approx(bytes_each, rel=1e-3)


def test_the_table_of_the_documentation_is_the_count() -> None:
    rows = table([{"name": name, "count": count(case)} for name, case in LLADA_8B.items()])
    assert len(rows.splitlines()) == 2 + len(LLADA_8B)
    assert rows in (Path(__file__).resolve().parents[2] / "docs" / "training_cost.md").read_text()


@pytest.mark.slow
def test_the_count_is_within_a_tenth_of_the_measurement() -> None:
    case = train_memory.SMALL["narrow, many logits"]
    assert count(case)["peak"] == pytest.approx(train_memory.measure(case, "cpu"), rel=0.1)
