"""Serve a page that shows a text while it is denoised, with two decode types side by side if wanted.

The page is for a browser on this machine, by default at http://127.0.0.1:7860. Models that you name are downloaded if
needed; nothing is uploaded. Needs the extra `demo`. Ctrl-C stops it.
"""

import argparse

from conv_dlm.answering.embedded import EMBEDDED_NAME
from conv_dlm.cli.options import port
from conv_dlm.cli.parser import Parser

SUMMARY = "watch a model denoise, on a page in the browser"
USAGE = "conv-dlm demo [options]"
EXAMPLES = f"""examples:
  conv-dlm demo
  conv-dlm demo --model {EMBEDDED_NAME} GSAI-ML/LLaDA-8B-Instruct
"""
PORT = 7860


def add_arguments(parser: Parser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--model", nargs="+", default=[EMBEDDED_NAME], metavar="NAME",
        help=f"the models to choose from: names on the Hub or folders (default: {EMBEDDED_NAME}, the embedded one)",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=PORT, metavar="N", help=f"default: {PORT}")


def run(args: argparse.Namespace) -> int:
    from conv_dlm.answering.loading import load_config
    from conv_dlm.cli.session import quiet_loading
    from conv_dlm.demo.page import serve

    quiet_loading(None)
    for name in args.model:
        if name != EMBEDDED_NAME:
            load_config(name)  # a name that leads nowhere is said now, not to the first visitor
    serve(args.model, host=args.host, port=args.port)
    return 0
