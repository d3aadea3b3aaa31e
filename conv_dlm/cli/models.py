"""List the published models that load without remote code, with what their weights take in memory.

In 8 and 4 bits embeddings and head stay in bfloat16, and so do the experts of a mixture, which is nearly all of it.
`conv-dlm fit NAME` counts the rest, activations and caches, from a model's config.
"""

import argparse
import json

from conv_dlm.cli.parser import Parser

SUMMARY = "list the published models that load without remote code"
USAGE = "conv-dlm models [--features] [--json]"
KINDS = {"bf16": "bfloat16", "8-bit": "8bit", "4-bit": "4bit"}  # and what they are called elsewhere
GIB = 2**30


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--features", action="store_true", help="what works with which family, and the test of it")
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(args: argparse.Namespace) -> int:
    from conv_dlm.cli.features import FEATURES, OTHERWISE, cells, table
    from conv_dlm.cost.sizes import Parameters
    from conv_dlm.models.published import FAMILIES

    if args.features:
        print(json.dumps(cells(), indent=2) if args.json else table())
        if not args.json:
            print("\nbd3lm: block by block, `objective: bd3lm`. The tests, each with a family's class as parameter:")
            for feature, test in [*FEATURES.items(), *dict.fromkeys(OTHERWISE.values())]:
                print(f"  {feature:10} {test}")
        return 0
    if args.json:
        listed = [family._asdict() | {"settings": family.settings} for family in FAMILIES]
        for entry in listed:
            del entry["own_settings"]
            entry["checkpoints"] = {name: size._asdict() for name, size in entry["checkpoints"].items()}
        print(json.dumps(listed, indent=2))
        return 0
    for family in FAMILIES:
        print(f"{family.name}: attention {family.attention}; logits of the {family.predicts} position; mask "
              f"{family.mask_token_id}")  # fmt: skip
        print("  " + ", ".join(f"{name}={value!r}" for name, value in family.settings.items()))
        for name, size in family.checkpoints.items():
            weights = Parameters(round(size.weights * 1e9), round((size.quantised or 0) * 1e9), rows=0)
            kinds = KINDS if size.quantised is not None else {"bf16": "bfloat16"}
            sizes = ", ".join(f"{weights.stored(storage) / GIB:.1f} {kind}" for kind, storage in kinds.items())
            print(f"  {name:60} {size.weights:6.2f} B weights, GiB: {sizes}")
    return 0
