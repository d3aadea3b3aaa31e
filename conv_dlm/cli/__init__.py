"""The command line: `conv-dlm COMMAND`. Each command is a module of this package and a few calls of the library."""

import sys
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from conv_dlm.cli import bench, chat, data, demo, evaluate, fit, generate, models, problem, push, serve
from conv_dlm.cli.parser import Parser
from conv_dlm.cli.streams import take_any_text
from conv_dlm.utils.running import exit_code_of

# A command is a module with `SUMMARY`, `USAGE`, `add_arguments(parser)` and `run(args) -> int` (the exit code). Heavy
# imports belong into functions.
COMMANDS = {
    "generate": generate,
    "chat": chat,
    "eval": evaluate,
    "bench": bench,
    "data": data,
    "fit": fit,
    "models": models,
    "demo": demo,
    "problem": problem,
    "serve": serve,
    "push": push,
}


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="conv-dlm", description="Masked diffusion language models: text by denoising.")
    parser.add_argument(
        "--parts", metavar="FILE", help="Python file that registers parts of one's own; before the command, is executed"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.SUMMARY, usage=module.USAGE, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv (sequence of `str`, *optional*, defaults to `sys.argv[1:]`):
            The command and its arguments.

    Returns:
        `int`: exit code: 0, 2 for a mistake in what was asked for, 130 after Ctrl-C.
    """
    take_any_text()
    words = list(sys.argv[1:] if argv is None else argv)
    if len(words) > 1 and words[0] == "--parts":  # now, for the options of all commands depend on the parts
        return exit_code_of("conv-dlm", lambda: _run_with(words[1], words[2:]))
    return _run(words)


def _run(words: Sequence[str]) -> int:
    args = build_parser().parse_args(words)
    return exit_code_of(f"conv-dlm {args.command}", lambda: args.run(args))


def _run_with(file: str, words: Sequence[str]) -> int:
    """Run a command with the parts that a file registers. Raises ValueError if there is none."""
    path = Path(file)
    spec = spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"`--parts`={file} is no Python file.")
    module = module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # where its dataclasses look up their annotations
    spec.loader.exec_module(module)
    return _run(words)
