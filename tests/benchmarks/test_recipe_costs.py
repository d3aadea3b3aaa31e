"""The cost of a recipe, against numbers worked out apart."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import recipe_costs
from conv_dlm.cost.floor import block_weights, head_weights
from conv_dlm.cost.sizes import Shape
from conv_dlm.models import LLaDAConfig, MDLMConfig

RECIPE = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "held_out_rows": 2,
    "canvas_length": 10,
    "max_steps": 5,
    "output_dir": "outputs/all",
    "gradient_checkpointing": False,
}


def parameters_of(shape: Shape) -> int:
    """Of the matrices that every token passes."""
    return shape.layers * block_weights(shape) + head_weights(shape)


def test_parameters_are_the_models(make_llada: Any) -> None:
    """All but the embedding, for a model without other vectors than norms."""
    model = make_llada(n_kv_heads=2)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2) - model.get_input_embeddings().weight.numel()
    assert parameters_of(Shape.of(model.config)) == matrices


def test_a_plain_mlp_has_two_matrices() -> None:
    shape = Shape.of(MDLMConfig(vocab_size=20, hidden_dim=8, n_blocks=1, n_heads=2))
    assert parameters_of(shape) == 4 * 8 * 8 + 2 * 8 * 32 + 20 * 8


def test_operations() -> None:
    shape = Shape.of(LLaDAConfig(d_model=8, n_layers=2, n_heads=2, mlp_hidden_size=12, vocab_size=20))
    parameters = parameters_of(shape)
    forward = 2 * parameters + 2 * 4 * 10 * 8
    tokens = 5 * 8 * 10
    cost = recipe_costs.cost(RECIPE, shape)
    assert (cost["steps"], cost["tokens"]) == (5, tokens)
    assert cost["operations"] == 3 * forward * tokens  # forward, activations, weights
    assert cost["hours"] == pytest.approx(3 * forward * tokens / 989e12 * 2 / 3600)
    adapters = RECIPE | {"output_dir": "outputs/lora", "gradient_checkpointing": True}
    assert recipe_costs.cost(adapters, shape)["operations"] == 3 * forward * tokens  # forward twice, activations
    epochs = {name: value for name, value in RECIPE.items() if name != "max_steps"} | {"num_train_epochs": 2}
    assert recipe_costs.cost(epochs, shape)["steps"] == 2 * 6500  # 52,000 rows of 8


def test_the_stored_costs_are_todays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["recipe_costs", "--results", str(tmp_path / "costs.json")])
    recipe_costs.main()
    stored = json.loads((recipe_costs.ROOT / "benchmarks/results/recipe_costs.json").read_text())
    assert json.loads((tmp_path / "costs.json").read_text())["recipes"] == stored["recipes"]


def test_the_page_shows_the_stored_costs() -> None:
    recipes = json.loads((recipe_costs.ROOT / "benchmarks/results/recipe_costs.json").read_text())["recipes"]
    page = (recipe_costs.ROOT / "docs/training_cost.md").read_text()
    assert all(recipe_costs.line(cost) in page for cost in recipes.values())
