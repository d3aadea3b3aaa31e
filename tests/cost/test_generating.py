"""The formula for a step of `generate` agrees with a count of all its tensors, and with what a run really takes."""

import sys
from typing import Any

import pytest

from benchmarks.fit_check import check, count
from conv_dlm.cost import generating
from conv_dlm.cost.generating import Generation, activations, cache
from conv_dlm.cost.shapes import SHAPES, shape_config
from conv_dlm.cost.sizes import Shape
from conv_dlm.generation import loop
from conv_dlm.models import LLaDAConfig, MDLMConfig

# what a process takes besides tensors (libraries' buffers, kernels' own) is some MB: a tenth of some 100 MB
MEASURED = {
    "llada": LLaDAConfig(
        d_model=512, n_layers=2, n_heads=8, mlp_hidden_size=1536, vocab_size=32000, mask_token_id=3, pad_token_id=0
    ),
    "mdlm": MDLMConfig(hidden_dim=512, n_blocks=2, n_heads=8, vocab_size=32000, cond_dim=32, pad_token_id=0),
}


def two_layers(name: str) -> Any:
    config = shape_config(name)
    setattr(config, "n_blocks" if name == "mdlm-small" else "n_layers", 2)
    return config


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1984, 64), (2, 1984, 16), (2, 64, 448)], ids=str)
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_formula_agrees_with_the_count(
    name: str, storage: str, sizes: tuple[int, int, int], guided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where blocks decide, and where logits do, in the real widths.

    Of the three copies of scores a count sees those that the loop makes, two at a time from bfloat16 and none from
    float32, but not what `logsumexp` makes inside.
    """
    monkeypatch.setattr(generating, "SCORE_COPIES", 2 if storage == "bfloat16" else 0)
    config = two_layers(name)
    asked = Generation(*sizes, guided=guided, device_type="cpu")
    assert activations(Shape.of(config), asked, storage) == pytest.approx(count(config, asked, storage), rel=0.025)


@pytest.mark.skipif(sys.platform != "linux", reason="measures by /proc")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("llada", (8, 448, 64)),
        ("mdlm", (4, 64, 192)),
        pytest.param("llada", (4, 64, 192), marks=pytest.mark.slow),
        pytest.param("mdlm", (8, 448, 64), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_formula_is_within_a_tenth_of_what_is_measured(name: str, sizes: tuple[int, int, int]) -> None:
    row = check(MEASURED[name], Generation(*sizes, device_type="cpu"), "float32", counting=False)
    assert row["weights"]["estimate"] == row["weights"]["measured"]
    assert row["estimate_over_measured"] == pytest.approx(1, abs=0.1)


def test_scores_are_cut_as_the_loop_cuts_them() -> None:
    assert loop.SCORES_AT_ONCE == generating.SCORES_AT_ONCE
    assert loop.SCORES_AT_ONCE_ELSEWHERE == generating.SCORES_AT_ONCE_ELSEWHERE


def test_a_cache_holds_keys_and_values_of_the_canvas() -> None:
    shape = Shape.of(shape_config("embedded"))  # 30 layers, 3 heads of 64 with keys and values
    asked = Generation(2, 100, 28, cached=True)
    assert cache(shape, asked, "bfloat16") == 2 * 30 * 3 * 64 * (2 * 128) * 2
    assert cache(shape, Generation(2, 100, 28, cached=True, guided=True), "float32") == 4 * cache(shape, asked, "4bit")
    assert cache(shape, Generation(2, 100, 28), "bfloat16") == 0


def test_quantised_products_take_more() -> None:
    shape = Shape.of(shape_config("llada-8b"))
    asked = Generation(1, 2048, 64, device_type="cuda")
    plain = activations(shape, asked, "bfloat16")
    assert activations(shape, asked, "4bit") == plain + 2 * 4096 * 12288
    assert activations(shape, asked, "8bit") >= plain
