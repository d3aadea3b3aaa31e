"""How much a server gains by denoising requests together, against one at a time.

    python -m benchmarks.serving --results benchmarks/results/serving_cpu.json
    python -m benchmarks.serving --device cuda --dtype bfloat16 --results outputs/serving_cuda.json

The server of `conv-dlm serve` runs in this process; clients send generated word problems to it, all at once, and the
time is that until the last answer. Every request has its own seed, so that the answers must be the same whatever the
batch.
"""

import argparse
import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from conv_dlm.answering.embedded import EMBEDDED_NAME
from conv_dlm.answering.loading import load_model, own_name
from conv_dlm.answering.prompting import Prompter
from conv_dlm.cli.data import read_levels
from conv_dlm.serving.app import build_app
from conv_dlm.serving.queue import Worker
from conv_dlm.serving.served import Limits, ServedModel
from conv_dlm.serving.server import in_background
from conv_dlm.utils.environment import describe_run
from conv_dlm.word_problems import problems


def ask(address: str, question: str, seed: int, settings: dict[str, int]) -> tuple[str, int]:
    """The answer to a question, and its tokens."""
    body = {"messages": [{"role": "user", "content": question}], "seed": seed} | settings
    url, headers = f"{address}/v1/chat/completions", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=3600) as reply:
        answer = json.load(reply)
    return answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"]


def run(served: ServedModel, questions: list[str], batch_size: int, settings: dict[str, int]) -> dict[str, Any]:
    """All questions at once to a server with this largest batch; the time starts when it is warm."""
    worker = Worker(served.model, batch_size, max_queue=len(questions))
    app = build_app(served, worker, max_request_bytes=1 << 20)
    with in_background(app, worker) as address, ThreadPoolExecutor(len(questions)) as pool:
        ask(address, questions[0], 0, settings | {"steps": 1})
        started = time.perf_counter()
        replies = list(pool.map(lambda pair: ask(address, pair[1], pair[0], settings), enumerate(questions)))
        seconds = time.perf_counter() - started
    tokens = sum(tokens for _, tokens in replies)
    return {
        "max_batch_size": batch_size,
        "seconds": seconds,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "answers": [text for text, _ in replies],
    }


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", help="name on the Hub or folder (default: the embedded model)")
    add("--device", default="cpu")
    add("--dtype")
    add("--requests", type=int, default=8, help="at the same time")
    add("--level", default="1-8", metavar="N[-N]", help="of the problems: number of operations")
    add("--max-tokens", type=int, default=64)
    add("--steps", type=int, default=32)
    add("--batch-sizes", nargs="+", type=int, default=[1, 8])
    add("--results", type=Path, default=Path("outputs/serving.json"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    model, tokenizer = load_model(args.model, device=args.device, dtype=args.dtype)
    name = EMBEDDED_NAME if args.model is None else own_name(args.model)
    limits = Limits(args.max_tokens, args.steps)
    settings = {"max_tokens": args.max_tokens, "steps": args.steps}
    served = ServedModel(name, model, tokenizer, Prompter(tokenizer), {"max_new_tokens": 1, "steps": 1}, limits)
    questions = [one.question for one in problems(0, args.requests, split="test", levels=read_levels(args.level))]
    rows = []
    for batch_size in args.batch_sizes:
        rows.append(run(served, questions, batch_size, settings))
        print(
            f"{name}, {args.requests} requests, at most {batch_size} together: {rows[-1]['seconds']:.1f} s, "
            f"{rows[-1]['tokens_per_second']:.1f} tokens/s",
            flush=True,
        )
    same = all(row.pop("answers") == answers for answers in [rows[0]["answers"]] for row in rows)
    print(f"the answers are {'the same' if same else 'not the same'}")
    told = describe_run("python -m benchmarks.serving", args.device) | {"model": name, "requests": args.requests}
    args.results.parent.mkdir(parents=True, exist_ok=True)
    args.results.write_text(
        json.dumps(told | settings | {"same_answers": same, "cases": rows}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
