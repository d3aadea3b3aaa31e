"""What a model knows of word problems: its next tokens, with everything before them given.

    python -m benchmarks.next_tokens outputs/embedded/autoregressive --problems 150

For checkpoints of the embedded model on its way, whose answers would take longer. The share of most probable tokens
that are right, by kind: results of sums, differences, products and quotients; operands; the final number; other tokens,
of which many could stand there as well. For a masked diffusion LM, everything from the token on is masked, and numbers
alone are asked for, each by a row of its own.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from conv_dlm.cli.data import read_levels
from conv_dlm.evaluation.figures import figure, shown
from conv_dlm.generation.mixin import DiffusionGenerationMixin
from conv_dlm.word_problems import Problem, problems

OTHER = "other tokens"
OPERATIONS = {"+": "sums", "-": "differences", "*": "products", "/": "quotients"}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or name of a causal LM whose tokenizer has a chat template")
    parser.add_argument("--problems", type=int, default=150, metavar="N", help="of the test split (default: 150)")
    parser.add_argument("--level", default="1-8", metavar="N[-N]", help="number of operations (default: 1-8)")
    parser.add_argument("--seed", type=int, default=99, metavar="N", help="which problems (default: 99)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    model = AutoModelForCausalLM.from_pretrained(args.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    right: dict[str, list[float]] = {}
    nats: list[float] = []
    for problem in problems(args.seed, args.problems, split="test", levels=read_levels(args.level)):
        prompt, solution = encode(problem, tokenizer)
        asked = list(kinds(solution, tokenizer))
        if isinstance(model, DiffusionGenerationMixin):
            places = [place for place, kind in enumerate(asked) if kind != OTHER]
            logits = masked_logits(model, prompt, solution, places)
        else:
            places = list(range(len(solution)))
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + solution])).logits[0, len(prompt) - 1 : -1].float()
        targets = torch.tensor(solution)[places]
        nats += (-logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)).tolist()
        for place, hit in zip(places, (logits.argmax(-1) == targets).tolist(), strict=True):
            right.setdefault(asked[place], []).append(float(hit))
    print(f"nats a token that is asked for: {shown(figure(nats), 1, '.3f')}")
    counts = Counter({kind: len(hits) for kind, hits in right.items()})
    for kind, count in counts.most_common():
        print(f"{kind:14} {shown(figure(right[kind]), 100, '.1f'):>12} % of {count}")
    return 0


@torch.no_grad()
def masked_logits(model: Any, prompt: list[int], solution: list[int], places: list[int]) -> torch.Tensor:
    """Logits [places, V] of a denoiser for tokens of the solution, each with all from it on masked."""
    mask, start = model.config.mask_token_id, len(prompt)
    rows = torch.tensor([prompt + solution]).repeat(len(places), 1)
    masked = torch.arange(rows.shape[1]) >= start + torch.tensor(places)[:, None]
    logits = model(input_ids=rows.masked_fill(masked, mask), attention_mask=torch.ones_like(rows)).logits.float()
    logits[..., mask] = -torch.inf
    at = start + torch.tensor(places) - int(bool(getattr(model.config, "shift_logits", False)))
    return logits[torch.arange(len(places)), at]


def encode(problem: Problem, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Tokens of the question as a chat, and of the solution to its turn's end."""
    turns = [{"role": "user", "content": problem.question}, {"role": "assistant", "content": problem.solution}]
    prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
    return prompt, whole[len(prompt) :]


def kinds(solution: Sequence[int], tokenizer: Any) -> Iterator[str]:
    """What each token of a solution is."""
    words = [tokenizer.decode([token]).strip() for token in solution]
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        if not word.isdecimal():
            yield OTHER
        elif before == "####":
            yield "final numbers"
        elif before == "=" and place >= 4:
            yield OPERATIONS.get(words[place - 3], "operands")
        else:
            yield "operands"


if __name__ == "__main__":
    sys.exit(main())
