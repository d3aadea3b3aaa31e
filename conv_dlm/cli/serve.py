"""Serve a model to clients of OpenAI's API: completions and chats, streamed or whole.

Requests may set decode options in the extra body. They wait in a queue, and those with the same settings are denoised
together. Ctrl-C, or SIGTERM, stops the server when what it accepted is finished, a second one at once.
"""

import argparse
import contextlib
import os

from conv_dlm.cli.notes import note
from conv_dlm.cli.options import add_generation_options, add_model_options, generation_options, port
from conv_dlm.cli.parser import Parser

SUMMARY = "serve a model by OpenAI's protocol"
USAGE = "conv-dlm serve [options]"
EXAMPLES = """examples:
  conv-dlm serve
  conv-dlm serve --model GSAI-ML/LLaDA-8B-Instruct --decode-type conv_threshold --max-new-tokens 512 --port 8001
  CONV_DLM_API_KEY=... conv-dlm serve --host 0.0.0.0
"""
HOW_TO_ASK = (
    "{name} on {url}/v1; ask it: curl {url}/v1/chat/completions -H 'Content-Type: application/json' "
    """-d '{{"messages": [{{"role": "user", "content": "What is 7 * 8?"}}]}}'"""
)
KEY_VARIABLE = "CONV_DLM_API_KEY"
LIMITS = {  # option -> default and what it limits
    "max_batch_size": (8, "answers that are denoised together"),
    "max_queue": (64, "answers that may wait"),
    "max_new_tokens_limit": (1024, "longest canvas that a request may ask for"),
    "steps_limit": (1024, "most steps that a request may ask for"),
    "max_request_bytes": (1 << 20, "longest body of a request"),
    "max_connections": (1000, "connections at a time; the oldest that only wait make room"),
    "grace": (30, "seconds that a stop leaves to what is being answered"),
}


def add_arguments(parser: Parser) -> None:
    parser.epilog = EXAMPLES
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    group.add_argument("--port", type=port, default=8000, metavar="N", help="0 takes any free one (default: 8000)")
    group.add_argument("--api-key", metavar="KEY", help=f"what clients must give (default: {KEY_VARIABLE}, if set)")
    for name, (default, text) in LIMITS.items():
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    add_model_options(parser, without={"seed"})
    add_generation_options(parser)


def run(args: argparse.Namespace) -> int:
    options = generation_options(args)
    api_key = os.environ.get(KEY_VARIABLE) if args.api_key is None else args.api_key
    if api_key is not None and not api_key.strip():
        source = f"The variable {KEY_VARIABLE}" if args.api_key is None else "`--api-key`"
        raise ValueError(f"{source} is empty, and would keep nobody out; give a key, or leave it away.")
    for name in LIMITS:
        if getattr(args, name) < 1:
            raise ValueError(f"`--{name.replace('_', '-')}`={getattr(args, name)} must be at least 1.")

    from conv_dlm.answering.embedded import EMBEDDED_NAME
    from conv_dlm.answering.loading import own_name
    from conv_dlm.answering.prompting import Prompter
    from conv_dlm.cli.session import load
    from conv_dlm.serving.app import build_app
    from conv_dlm.serving.queue import Worker
    from conv_dlm.serving.served import Limits, ServedModel
    from conv_dlm.serving.server import address, is_loopback, listen, make_server

    with listen(args.host, args.port) as listener:
        model, tokenizer = load(args)
        name = EMBEDDED_NAME if args.model is None else own_name(args.model)
        limits = Limits(args.max_new_tokens_limit, args.steps_limit)
        served = ServedModel(name, model, tokenizer, Prompter(tokenizer, args.system, args.raw), options, limits)
        worker = Worker(model, args.max_batch_size, args.max_queue)
        app = build_app(served, worker, args.max_request_bytes, api_key, only_here=is_loopback(listener))
        server = make_server(
            app, worker, lambda: note(HOW_TO_ASK.format(name=name, url=address(listener))), args.max_connections,
            args.grace,
        )  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt):  # which ends a server in good order
            server.run(sockets=[listener])
        worker.close()
        worker.join(timeout=60)
    return 0
