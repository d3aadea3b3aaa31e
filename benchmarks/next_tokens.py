"""What a causal LM knows of word problems: its next tokens, with everything before them given.

    python -m benchmarks.next_tokens outputs/embedded/autoregressive --problems 150

For checkpoints of the embedded model's first phase, whose answers would take longer. The share of most probable tokens
that are right, by kind: results of sums, differences, products and quotients; operands; the final number; other tokens,
of which many could stand there as well.
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
from conv_dlm.word_problems import Problem, problems

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
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + solution])).logits[0, len(prompt) - 1 : -1].float()
        targets = torch.tensor(solution)
        nats += (-logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)).tolist()
        for kind, hit in zip(kinds(solution, tokenizer), (logits.argmax(-1) == targets).tolist(), strict=True):
            right.setdefault(kind, []).append(float(hit))
    print(f"nats a token of the solution: {shown(figure(nats), 1, '.3f')}")
    counts = Counter({kind: len(hits) for kind, hits in right.items()})
    for kind, count in counts.most_common():
        print(f"{kind:14} {shown(figure(right[kind]), 100, '.1f'):>12} % of {count}")
    return 0


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
            yield "other tokens"
        elif before == "####":
            yield "final numbers"
        elif before == "=" and place >= 4:
            yield OPERATIONS.get(words[place - 3], "operands")
        else:
            yield "operands"


if __name__ == "__main__":
    sys.exit(main())
