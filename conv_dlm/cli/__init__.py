"""The command line: `conv-dlm COMMAND`. Each command is a module of this package and a few calls of the library."""

from collections.abc import Sequence

from conv_dlm.cli import bench, chat, data, demo, evaluate, fit, generate, push, serve
from conv_dlm.cli.parser import Parser
from conv_dlm.cli.running import exit_code_of

# A command is a module with `SUMMARY`, `USAGE`, `add_arguments(parser)` and `run(args) -> int` (the exit code). Heavy
# imports belong into functions.
COMMANDS = {
    "generate": generate,
    "chat": chat,
    "eval": evaluate,
    "bench": bench,
    "data": data,
    "fit": fit,
    "demo": demo,
    "serve": serve,
    "push": push,
}


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="conv-dlm", description="Masked diffusion language models: text by denoising.")
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
    args = build_parser().parse_args(argv)
    return exit_code_of(f"conv-dlm {args.command}", lambda: args.run(args))
