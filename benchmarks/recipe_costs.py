"""What the recipes of the paper's models cost, by calculation: operations, and hours on a GPU.

    python -m benchmarks.recipe_costs --results benchmarks/results/recipe_costs.json

A forward of all rows takes what `conv_dlm.cost.floor.operations` counts, with every position projected to the
vocabulary. A backward takes as many for the activations and, where all parameters are trained, as many again for the
weights; activation checkpointing repeats the forward. Adapters' own operations, a hundredth of that, are left out, and
so are evaluations. A GPU reaches half of its dense bfloat16 peak.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import yaml

from conv_dlm.cost.floor import ForwardSize, operations
from conv_dlm.cost.shapes import shape_config
from conv_dlm.cost.sizes import Shape
from conv_dlm.utils.environment import ROOT, describe_run
from conv_dlm.utils.files import write_json

ALPACA_ROWS = 52_002  # https://huggingface.co/datasets/tatsu-lab/alpaca
PEAK, UTILISATION = 989e12, 0.5  # operations a second of an H100 SXM in dense bfloat16, by its data sheet
RECIPES = {
    "mdlm-small-sft": ("configs/sft/mdlm_small.yaml", "mdlm-small"),
    "mdlm-small-r2ft": ("configs/r2ft/mdlm_small.yaml", "mdlm-small"),
    "llada-8b-sft": ("configs/sft/llada_8b_lora.yaml", "llada-8b"),
    "llada-8b-r2ft": ("configs/r2ft/llada_8b_lora.yaml", "llada-8b"),
}


def cost(recipe: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """Steps, tokens, operations and hours of a recipe for a model of a shape."""
    rows_a_step = recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"]
    rows = ALPACA_ROWS - recipe["held_out_rows"]
    steps = recipe.get("max_steps") or recipe["num_train_epochs"] * math.ceil(rows / rows_a_step)
    length = recipe["canvas_length"]
    forward = operations(shape, ForwardSize(steps * rows_a_step, length, keys=length, projected=length))
    trains_all = not (recipe.get("use_peft") or "lora" in recipe["output_dir"])  # R2FT goes on with SFT's adapter
    passes = 2 + trains_all + bool(recipe["gradient_checkpointing"])
    needed = passes * forward
    return {
        "steps": steps,
        "rows_a_step": rows_a_step,
        "rows": rows,
        "tokens": steps * rows_a_step * length,
        "operations": float(needed),
        "hours": needed / (PEAK * UTILISATION) / 3600,
    }


def line(cost: dict[str, Any]) -> str:
    """A recipe's line in the table of docs/training_cost.md."""
    recipe, tokens, operations = cost["recipe"], cost["tokens"] / 1e6, cost["operations"] / 1e18
    return (
        f"| [{recipe}](../{recipe}) | {cost['steps']:,} | {cost['rows_a_step']} | {tokens:,.0f} M "
        f"| {operations:.2f} | {cost['hours']:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", required=True, help="JSON file to write")
    args = parser.parse_args()
    shapes = {name: Shape.of(shape_config(name)) for name in ("mdlm-small", "llada-8b")}
    costs = {
        name: cost(yaml.safe_load((ROOT / path).read_text(encoding="utf-8")), shapes[shape]) | {"recipe": path}
        for name, (path, shape) in RECIPES.items()
    }
    about = describe_run("python -m benchmarks.recipe_costs", "cpu")
    assumed = {"device": "H100", "peak": PEAK, "utilisation": UTILISATION}
    write_json(Path(args.results), about | {"assumed": assumed, "recipes": costs})
    print("\n".join(map(line, costs.values())))


if __name__ == "__main__":
    main()
