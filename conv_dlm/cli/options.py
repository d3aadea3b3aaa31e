"""Options that several commands share: which model, and how it denoises."""

import argparse
from collections.abc import Collection
from typing import Any

from conv_dlm.cli.parser import Parser
from conv_dlm.generation.cache_policies import CACHE_POLICIES
from conv_dlm.generation.configuration import (
    DEFAULT_MAX_NEW_TOKENS,
    DIFFUSION_DEFAULTS,
    REMASKING,
    DiffusionGenerationConfig,
)
from conv_dlm.generation.decode_types import DECODE_TYPES, get_decode_type
from conv_dlm.generation.early_exit import EXIT_SCHEDULES

# Fields of the generation config with what they mean to somebody at a terminal. A default is named in the help where
# the library has one; the value itself lives there alone, and an option that is not given changes nothing.
GENERATION_OPTIONS: dict[str, tuple[type, str]] = {
    "decode_type": (str, "how to denoise, see below"),
    "steps": (int, "denoising steps: at most one forward each, fewer are faster"),
    "max_new_tokens": (int, "length of the response; 0 fills the masks of the prompt only"),
    "kernel_size": (int, "positions that the convolution spans"),
    "conv_mult": (float, "factor on the number of known neighbours in the convolution"),
    "block_length": (int, "positions of a block or window; without it one block"),
    "top_k": (int, "candidates of a position, 0 for the whole vocabulary; without it the decode type's"),
    "temperature": (float, "0 draws nothing at random"),
    "do_sample": (bool, "draw at random; without it the decode type's"),
    "repetition_penalty": (float, "above 1: tokens already there become less likely"),
    "guidance_scale": (float, "classifier-free guidance, 1 is off"),
    "eos_fill": (bool, "end the response as soon as an end token is decided"),
    "remasking": (str, f"what llada ranks by: {' or '.join(REMASKING)}"),
    "confidence_eos_eot_inf": (bool, "decide end tokens last (llada, llada_conv)"),
    "threshold": (float, "confidence from which on threshold types decide"),
    "factor": (float, "how much factor types decide at once: more with a greater one"),
    "entropy_bound": (float, "nats of uncertainty that entropy types decide at once"),
    "eos_threshold": (float, "cut the text off behind an end token of this probability"),
    "exit_schedule": (str, f"decide the rest at once when it is clear: {', '.join(EXIT_SCHEDULES)}"),
    "exit_high": (float, "how clear at the start: margin of the best token, in logits"),
    "exit_low": (float, "and at the end"),
    "exit_decay": (float, "how fast the exponential schedule falls"),
    "exit_patience": (bool, "and only if the best tokens were the same in the step before"),
    "cache_implementation": (str, f"keep keys and values, which is faster and inexact: {', '.join(CACHE_POLICIES)}"),
    "cache_refresh_interval": (int, "every how manieth forward a window cache computes everything"),
    "cache_margin": (int, "positions around the window that a window cache computes too"),
    "horizon": (int, "leave masks out that are more than so many positions behind the text"),
    "compile": (bool, "compile the model's forward"),
    "eta": (float, "share of tokens that remdm masks again in a step"),
    "alpha_on": (float, "share of tokens that remdm keeps decided in its loop"),
    "t_on": (float, "time at which remdm's loop begins"),
    "t_off": (float, "time at which it ends"),
    "reference_normalizer": (bool, "count k + 1 candidates, as the code released with the paper"),
    "mask_token_id": (int, "the mask, where the model's config doesn't name it"),
}
METAVARS = {int: "N", float: "X", str: "HOW"}


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
    """The fields of `GENERATION_OPTIONS`, but for what the command varies, and the decode types in the epilog."""
    group = parser.add_argument_group(
        "denoising", "What is not given here is as the checkpoint's generation_config.json says, else the default."
    )
    defaults = DIFFUSION_DEFAULTS | {"max_new_tokens": DEFAULT_MAX_NEW_TOKENS}
    for name, (kind, text) in GENERATION_OPTIONS.items():
        if name in without:
            continue
        default = defaults.get(name)
        if default is not None and kind is not bool:
            text += f" (default: {default})"
        flag = "--" + name.replace("_", "-")
        if kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        elif name == "decode_type":
            group.add_argument(flag, type=decode_type, metavar="TYPE", help=text)
        else:
            group.add_argument(flag, type=kind, metavar=METAVARS[kind], help=text)
    width = max(map(len, DECODE_TYPES))
    types = "\n".join(f"  {name:{width}}  {kind.summary}" for name, kind in DECODE_TYPES.items())
    parser.epilog = f"decode types:\n{types}\n\n{parser.epilog or ''}"


def generation_options(args: argparse.Namespace, without: Collection[str] = ()) -> dict[str, Any]:
    """The keywords of `generate` that were given. Raises ValueError for impossible ones."""
    names = [name for name in GENERATION_OPTIONS if name not in without]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    DiffusionGenerationConfig(**given)  # validates, before a big model is loaded in vain
    return given


def decode_type(name: str) -> str:
    try:
        get_decode_type(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name
