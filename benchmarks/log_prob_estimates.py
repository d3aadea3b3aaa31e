"""Bias and variance of the estimates of log-probabilities, against what can be computed for a few tokens.

    python -m benchmarks.log_prob_estimates --results benchmarks/results/log_prob_estimates.json

Texts are a few tokens of solutions to word problems, with the question and what stands before them known. For every
set of masks among so few tokens the model is asked once, so that both references are exact:

- the bound: log p, averaged over all orders in which the text can be written, one token at a time
- the likelihood: the log of p averaged over these orders, what random order writes the text with; never less

Each estimate is then drawn many times from the same table, `trajectory` along random orders. `one_step` masks no
prompt here.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import conv_dlm
from conv_dlm.utils.environment import describe_run
from conv_dlm.utils.files import write_json
from conv_dlm.word_problems import problems
from trainers import noise
from trainers.estimates import ESTIMATES, Completions, Coupled, Elbo, Estimate, OneStep

VARIANTS: dict[str, Estimate] = {
    "one_step": OneStep(prompt_mask_share=0.0),
    "coupled": Coupled(),
    "coupled, 4 pairs": Coupled(coupled_pairs=4),
    "trajectory": ESTIMATES["trajectory"](),
    "autoregressive": ESTIMATES["autoregressive"](),
    "elbo": Elbo(),
    "elbo, 8 points": Elbo(elbo_points=8),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a masked diffusion LM (default: the one that the package carries)")
    parser.add_argument("--texts", type=int, default=8, metavar="N", help="texts (default: 8)")
    parser.add_argument("--tokens", type=int, default=5, metavar="N", help="tokens of a text (default: 5)")
    parser.add_argument("--known", type=int, default=12, metavar="N", help="of the solution before them (default: 12)")
    parser.add_argument("--draws", type=int, default=2000, metavar="N", help="of each estimate (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of texts and draws (default: 0)")
    parser.add_argument("--results", required=True, help="JSON file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    name = args.model or conv_dlm.embedded_checkpoint()
    model = AutoModelForCausalLM.from_pretrained(name).eval()
    tokenizer = AutoTokenizer.from_pretrained(name)
    rows: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    gaps = []
    for problem in problems(args.seed, args.texts, split="test", levels=(2, 4)):
        chat = [{"role": "user", "content": problem.question}]
        templated: Any = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
        prompt = templated["input_ids"]
        solution = tokenizer(problem.solution, add_special_tokens=False)["input_ids"]
        text = solution[args.known : args.known + args.tokens]
        table = ask(model, [*prompt, *solution[: args.known]], text)
        bound, likelihood = references(table)
        gaps.append(likelihood - bound)
        for variant, estimate in VARIANTS.items():
            sums, views = draw(estimate, table, args.draws, args.seed)
            found = {"bias": float(sums.mean()) - likelihood, "deviation": float(sums.std()), "views": views}
            rows[variant].append(found | {"bias_to_bound": float(sums.mean()) - bound})
    summary = {variant: {key: mean(row[key] for row in found) for key in found[0]} for variant, found in rows.items()}
    print(f"The likelihood is {mean(gaps):.2f} nats over the bound, on average.")
    for variant, its in summary.items():
        print(f"{variant:18} {its['views']:5.1f} views, bias {its['bias']:+6.2f}, deviation {its['deviation']:5.2f}")
    about = describe_run("python -m benchmarks.log_prob_estimates", "cpu")
    write_json(Path(args.results), about | {"likelihood_over_bound": mean(gaps), "estimates": summary})
    return 0


@torch.no_grad()
def ask(model: Any, before: list[int], text: list[int]) -> Tensor:
    """log p of each token for every set of masks, by the set's bits: `FloatTensor` [2^n, n]; 0 where it is no mask."""
    count = len(text)
    hidden_SN = torch.tensor(list(itertools.product([False, True], repeat=count))).flip(1)  # row s has the bits of s
    ids_SN = torch.tensor(text).expand(len(hidden_SN), -1).masked_fill(hidden_SN, model.config.mask_token_id)
    ids_SL = torch.cat([torch.tensor(before).expand(len(hidden_SN), -1), ids_SN], 1)
    first = len(before) - int(bool(model.shift_logits))
    logits = model(ids_SL, logits_to_keep=torch.arange(first, first + count)).logits.float()
    logits[..., model.config.mask_token_id] = -torch.inf
    log_p_SN = logits.log_softmax(-1).gather(2, torch.tensor(text).expand(len(hidden_SN), -1)[..., None]).squeeze(2)
    return log_p_SN.where(hidden_SN, 0.0).double()


def references(table: Tensor) -> tuple[float, float]:
    """The bound and the likelihood, from all orders."""
    count = table.shape[1]
    sums = [
        sum(float(table[sum(1 << place for place in order[n:]), order[n]]) for n in range(count))
        for order in itertools.permutations(range(count))
    ]
    orders = torch.tensor(sums, dtype=torch.float64)
    return float(orders.mean()), float(orders.logsumexp(0)) - math.log(len(sums))


def draw(estimate: Estimate, table: Tensor, draws: int, seed: int) -> tuple[Tensor, float]:
    """The estimates of the text's log-probability, `FloatTensor` [draws], and the views that each takes."""
    count = table.shape[1]
    orders = torch.rand(draws, count, generator=torch.Generator().manual_seed(seed)).argsort(1)
    everything = torch.ones(draws, count, dtype=torch.bool)
    nothing = torch.zeros(draws, count, dtype=torch.long)
    seeds = noise.row_seeds(seed, 0, torch.arange(draws))
    completions = Completions(nothing, everything.long(), everything, everything, orders)
    views = estimate(completions, partial(noise.uniform, seeds))
    bits_R = (views.hidden_RL * 2 ** torch.arange(count)).sum(1)
    read_R = (table[bits_R] * views.read_RL).sum(1) * views.weight_R
    return torch.zeros(draws, dtype=torch.float64).index_add(0, views.row_R, read_R), len(views.row_R) / draws


def mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found)


if __name__ == "__main__":
    sys.exit(main())
