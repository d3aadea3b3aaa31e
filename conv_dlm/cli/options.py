"""Options that several commands share: which model, and how it denoises."""

import argparse
from collections.abc import Collection
from typing import Any

from conv_dlm.cli.parser import Parser
from conv_dlm.constraints.languages import Choice, Constraint, JSONSchema, Regex
from conv_dlm.generation import DECODE_TYPES, DiffusionGenerationConfig
from conv_dlm.generation.configuration import user_settings
from conv_dlm.generation.settings import Setting
from conv_dlm.utils.files import read_text

METAVARS = {int: "N", float: "X", str: "HOW"}


def option_settings() -> dict[str, Setting]:
    """The settings that have an option, those of parts that a user has registered among them. A default is named in the
    help where the library has one; an option that is not given changes nothing."""
    return {name: its for name, its in user_settings().items() if name != "output_history"}


def add_model_options(parser: Parser, without: Collection[str] = ()) -> None:
    """Which model, where, and how prompts reach it."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="NAME", help="name on the Hub or folder (default: the embedded model)")
    group.add_argument("--tokenizer", metavar="NAME", help="where the model's folder has none, as MDLM's: gpt2")
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps, or auto: spread over all (default: the first found)")
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="default: the checkpoint's; float32 on a CPU, where it is faster",
    )
    group.add_argument("--quantize", choices=("8bit", "4bit"), help="by bitsandbytes: less memory, a bit slower")
    group.add_argument("--system", metavar="TEXT", help="system message")
    group.add_argument("--raw", action="store_true", help="give the prompt as it is, without the chat template")
    if "seed" not in without:
        group.add_argument(
            "--seed", type=int, default=0, help="random seed; a prompt has its own by its number (default: 0)"
        )


def add_generation_options(parser: Parser, without: Collection[str] = ()) -> None:
    """The options of `option_settings`, but for what the command varies, and the decode types in the epilog."""
    group = parser.add_argument_group(
        "denoising", "What is not given here is as the checkpoint's generation_config.json says, else the default."
    )
    for name, its in option_settings().items():
        if name in without:
            continue
        flag, text = "--" + name.replace("_", "-"), _help_of(name, its)
        if its.kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        elif name == "decode_type":
            group.add_argument(flag, type=decode_type, metavar="TYPE", help=text)
        else:
            group.add_argument(flag, type=its.kind, metavar=METAVARS[its.kind], help=text)
    width = max(map(len, DECODE_TYPES))
    types = "\n".join(f"  {name:{width}}  {kind.summary}" for name, kind in DECODE_TYPES.items())
    parser.epilog = f"decode types:\n{types}\n\n{parser.epilog or ''}"


def add_constraint_options(parser: Parser) -> Any:
    """What an answer has to be, one of these. Returns their group."""
    group = parser.add_argument_group("form of the answer", "Every answer has it, whatever the model would rather say.")
    only = group.add_mutually_exclusive_group()
    only.add_argument("--json-schema", metavar="FILE", help="JSON that is valid under the schema in FILE")
    only.add_argument("--regex", metavar="EXPRESSION", help="text that matches, from its first to its last character")
    only.add_argument("--choice", metavar="TEXT", action="append", help="this text, or that of a further --choice")
    return group


def constraint_of(args: argparse.Namespace) -> Constraint | None:
    """The constraint that `add_constraint_options` asks for. Raises ValueError, OSError."""
    if args.json_schema is not None:
        return JSONSchema(read_text(args.json_schema))
    if args.regex is not None:
        return Regex(args.regex)
    return None if args.choice is None else Choice(args.choice)


def _help_of(name: str, its: Setting) -> str:
    text = f"{its.help}, see below" if name == "decode_type" else its.help
    if name != "decode_type" and its.choices is not None:
        text += f": {', '.join(its.choices)}"
    default = its.default if its.kind is not bool else None
    return (text if default is None else f"{text} (default: {default})").replace("%", "%%")


def generation_options(args: argparse.Namespace, without: Collection[str] = ()) -> dict[str, Any]:
    """The keywords of `generate` that were given. Raises ValueError for impossible ones."""
    names = [name for name in option_settings() if name not in without]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    DiffusionGenerationConfig(**given)  # validates, before a big model is loaded in vain
    return given


def port(text: str) -> int:
    """The number of a port; 0 for any free one."""
    if not (text.isascii() and text.isdecimal() and int(text[:9]) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to {(1 << 16) - 1}, or 0")
    return int(text)


def decode_type(name: str) -> str:
    try:
        DECODE_TYPES.find(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name
