"""The trained model as the checkpoint that the package carries: in bfloat16, with its own defaults for generation.

    python -m hub_cards.build_embedded outputs/embedded/diffusion/checkpoint-8000 \\
        --phase "autoregressive" outputs/embedded/autoregressive/checkpoint-6500 \\
        --phase "masked diffusion" outputs/embedded/diffusion/checkpoint-8000

writes weights, configs, tokenizer and the record of the training, training_log.json, to
hub_cards/conv-dlm-word-problems. The card is `hub_cards.cards`' business.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import conv_dlm  # noqa: F401  registers the models
from conv_dlm.answering.embedded import EMBEDDED_NAME
from conv_dlm.utils.environment import device_name
from conv_dlm.utils.files import write_atomically

# One token a step on the canvas that it was trained on; the end of the text is the end of the run.
DECODING: dict[str, Any] = {
    "decode_type": "conv",
    "kernel_size": 2,
    "steps": 256,
    "max_new_tokens": 256,
    "eos_fill": True,
}


def phase(name: str, checkpoint: Path) -> dict[str, Any]:
    """Steps and tokens of a phase, from the state that Trainer saves with its checkpoint."""
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    counts = [int(entry["num_tokens"]) for entry in state["log_history"] if "num_tokens" in entry]
    # TRL's own count begins again where a run was resumed.
    tokens = sum(before for before, after in pairwise([*counts, 0]) if after < before)
    return {"name": name, "steps": state["global_step"], "tokens": tokens}


def numbers(tokenizer: Any) -> int:
    """The largest n for which all numbers from 0 to n are one token each."""
    n = 0
    while len(tokenizer(str(n + 1)).input_ids) == 1:
        n += 1
    return n


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder of the trained model")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / EMBEDDED_NAME, help="folder to write")
    parser.add_argument("--phase", nargs=2, action="append", default=[], metavar=("NAME", "CHECKPOINT"))
    return parser


def main() -> None:
    args = make_parser().parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.source)
    model = AutoModelForCausalLM.from_pretrained(args.source, dtype=torch.bfloat16)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>")]
    model.generation_config.update(**DECODING, eos_token_id=ends)
    model.save_pretrained(args.target)
    for key in ("is_local", "local_files_only"):  # where it was loaded from is nobody's business
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(args.target)
    log = {
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "largest_number": numbers(tokenizer),
        "hardware": device_name(torch.device("cpu")),
        "phases": [phase(name, Path(checkpoint)) for name, checkpoint in args.phase],
    }
    write_atomically(args.target / "training_log.json", json.dumps(log, indent=1) + "\n")
    print(f"{model.num_parameters():,} parameters written to {args.target}.")


if __name__ == "__main__":
    main()
