"""What a count says of a step: the same for some blocks as for all, near what a real run takes."""

import ctypes
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM

from benchmarks import fit_check
from conv_dlm.cost import counting
from conv_dlm.cost.counting import GenerationMemory, GenerationStep, TrainingMemory, TrainingStep
from conv_dlm.cost.fake_model import blocks_of, fake_parameters, with_blocks
from conv_dlm.cost.live_memory import LiveMemory
from conv_dlm.cost.shapes import shape_config
from conv_dlm.models import LLaDAConfig, MDLMConfig
from tests.forks import in_fork
from tests.models.families import tiny

# what a process takes besides tensors (libraries' buffers, kernels' own) is some MB: a tenth of some 100 MB
MEASURED = {
    "llada": LLaDAConfig(
        d_model=512, n_layers=2, n_heads=8, mlp_hidden_size=4096, vocab_size=32000, mask_token_id=3, pad_token_id=0
    ),
    "mdlm": MDLMConfig(hidden_dim=512, n_blocks=2, n_heads=8, vocab_size=32000, cond_dim=32, pad_token_id=0),
}
TARGETS = ("q_proj", "k_proj", "v_proj")
STEP = GenerationStep(2, 100, 28)


def on_meta(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.fixture(scope="module")
def llada_8b() -> Any:
    return on_meta(shape_config("llada-8b"))


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


# --- generating ---


@pytest.mark.parametrize("name", ["SDARMoeForCausalLM", "LLaDAMoEModelLM", "LLaDA2MoeModelLM"])
def test_experts_take_what_their_real_forward_takes(name: str) -> None:
    real = tiny(name, hidden_size=256, num_hidden_layers=2, num_experts=8, num_experts_per_tok=4)
    real.set_experts_implementation("grouped_mm")
    ids = torch.arange(128)[None]
    with torch.no_grad(), LiveMemory(real) as memory:
        before = memory.now
        real(ids)
        taken = memory.peak - before
    counted, mode = with_blocks(on_meta(real.config), 3), FakeTensorMode()
    fake_parameters(counted, mode)
    with mode, torch.no_grad(), LiveMemory(counted) as memory:
        before = memory.now
        counted(torch.zeros(1, 128, dtype=torch.long))
        assert abs(memory.peak - before - taken) < 0.1 * taken


@pytest.mark.parametrize("name", ["llada-8b", "mdlm-small"])
def test_some_blocks_stand_for_all_in_generating(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_blocks(on_meta(shape_config(name)), 5)
    for step in (GenerationStep(1, 1000, 24), GenerationStep(2, 64, 448, guided=True)):
        some = GenerationMemory(model, "bfloat16").activations(step)
        with monkeypatch.context() as patch:
            patch.setattr(counting, "COUNTED_BLOCKS", 5)
            assert GenerationMemory(model, "bfloat16").activations(step) == some


def measured(*case: Any) -> dict[str, float]:
    """What `fit_check` measures in a new process: there too, memory goes back to the system when its tensor does."""
    mmap_threshold = -3
    ctypes.CDLL(None).mallopt(mmap_threshold, 2**18)
    return fit_check._measure(*case)


@pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("llada", (8, 448, 64)),  # blocks decide
        # logits and scores do; of MDLM, tests/benchmarks/test_fit_check.py has stored measurements
        pytest.param("mdlm", (4, 64, 192), marks=pytest.mark.slow),
        pytest.param("llada", (4, 64, 192), marks=pytest.mark.slow),
        pytest.param("mdlm", (8, 448, 64), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_count_is_within_a_tenth_of_what_is_measured(
    name: str, sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_check, "measure", lambda *case: in_fork(measured, *case))
    row = fit_check.check(MEASURED[name], GenerationStep(*sizes, device_type="cpu"), "float32")
    assert row["weights"]["count"] == row["weights"]["measured"]
    assert row["count_over_measured"] == pytest.approx(1, abs=0.1)


def test_scores_count_as_the_loop_cuts_them(llada_8b: Any) -> None:
    """Three times 2^24 numbers on a GPU and 2^20 on a CPU, in whole positions, beside the logits."""
    memory, step = GenerationMemory(llada_8b, "bfloat16"), GenerationStep(1, 16, 512)
    vocabulary = llada_8b.config.vocab_size
    logits = 512 * vocabulary * 2
    at_once = 2**24 // vocabulary
    assert memory.activations(step) == pytest.approx(logits + 3 * 4 * at_once * vocabulary, rel=0.01)
    assert memory.activations(replace(step, device_type="cpu")) < memory.activations(step)


def test_a_cache_holds_keys_and_values_of_the_canvas(llada_8b: Any) -> None:
    memory, step = GenerationMemory(llada_8b, "bfloat16"), replace(STEP, cached=True)
    assert memory.cache(step) == 2 * 32 * 4096 * (2 * 128) * 2
    assert memory.cache(replace(step, guided=True)) == 2 * memory.cache(step)
    assert memory.cache(STEP) == 0
    assert memory.total(step) == memory.weights + memory.activations(step) + memory.cache(step)


def test_a_product_in_4_bits_unpacks_its_matrix(llada_8b: Any) -> None:
    plain, in_4 = (GenerationMemory(llada_8b, storage) for storage in ("bfloat16", "4bit"))
    few = GenerationStep(1, 16, 4)
    matrix = 2 * 4096 * 12288  # of the MLP, whatever the number of tokens
    assert in_4.weights < plain.weights
    assert plain.activations(few) < matrix <= in_4.activations(few) < 1.1 * matrix


def test_a_product_in_8_bits_has_its_result_in_32() -> None:
    grouped = LLaDAConfig(
        d_model=576, n_layers=2, n_heads=9, n_kv_heads=3, mlp_hidden_size=1536, vocab_size=800, mask_token_id=3
    )
    plain, in_8 = (GenerationMemory(on_meta(grouped), storage) for storage in ("bfloat16", "8bit"))
    step = GenerationStep(2, 900, 100)
    assert in_8.weights < plain.weights
    assert in_8.activations(step) > 1.1 * plain.activations(step)


# --- training ---


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("storage", ["float32", "bfloat16", "nf4"])
def test_some_blocks_stand_for_all_in_training(
    storage: str, checkpointing: bool, llada_8b: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    model, step = with_blocks(llada_8b, 5), TrainingStep(2, 64, 16, checkpointing)
    some = TrainingMemory(model, storage, 8, TARGETS)
    monkeypatch.setattr(counting, "COUNTED_BLOCKS", 5)
    every = TrainingMemory(model, storage, 8, TARGETS)
    with monkeypatch.context() as patch:
        patch.setattr(counting, "COUNTED_BLOCKS", 3)
        counted = some.activations(step), some.adapters
    assert counted == (every.activations(step), every.adapters)


def test_adapters_take_weights_gradients_and_two_states(llada_8b: Any) -> None:
    pytest.importorskip("peft")
    parameters = 32 * 64 * 3 * (4096 + 4096)
    assert TrainingMemory(llada_8b, "bfloat16", 64, TARGETS).adapters == 4 * 4 * parameters
    assert TrainingMemory(llada_8b, "nf4", 64, TARGETS).adapters == 4 * 2 * parameters  # in bfloat16, as TRL has them
    everywhere = TrainingMemory(llada_8b, "bfloat16", 64)
    assert everywhere.adapters > 2 * 4 * 4 * parameters


def test_what_training_keeps(llada_8b: Any) -> None:
    pytest.importorskip("peft")
    memory = TrainingMemory(with_blocks(llada_8b, 6), "bfloat16", 8, TARGETS)
    step = TrainingStep(1, 64, 16)
    base = memory.activations(step)
    for change in ({"rows": 2}, {"length": 128}, {"projected": 32}, {"checkpointing": False}):
        assert memory.activations(replace(step, **change)) > base, change
    kept = replace(step, checkpointing=False)
    on_cpu = memory.activations(replace(kept, device_type="cpu"))
    assert on_cpu > memory.activations(kept), "masks of dropout are wider there"


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear has no list of blocks"):
        blocks_of(torch.nn.Linear(2, 2))


def test_models_that_see_block_by_block_are_trained_on_each_row_twice() -> None:
    step = TrainingStep(2, 64, 32, True, "cpu")
    full, blocks = (
        TrainingMemory(tiny(name), "float32", 4, ("q_proj",)) for name in ("A2DQwen3LMHeadModel", "SDARForCausalLM")
    )
    assert full.activations(replace(step, length=128)) < blocks.activations(step)
    assert blocks.activations(step) < 1.5 * full.activations(replace(step, length=128))
    assert blocks.adapters == full.adapters
