"""Stage a folder for the Hub, show and check it, and upload it.

A model gets its code, so that it loads where conv-dlm is not installed; an adapter the name of its base model; a
`custom_generate` repository and a Space get the package. The folder itself is not changed.
"""

import argparse
import os
import tempfile
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from conv_dlm.cli.notes import note
from conv_dlm.cli.parser import Parser
from conv_dlm.utils.exit_codes import MISTAKE

if TYPE_CHECKING:  # imports torch and Transformers
    from conv_dlm.hub import Staged

SUMMARY = "put a model, an adapter or a Space on the Hub"
USAGE = "conv-dlm push FOLDER --repo-id NAME [options]"
EXAMPLES = """examples:
  conv-dlm push outputs/run --repo-id me/my-model --dry-run
  conv-dlm push outputs/lora --repo-id me/my-adapter --base-model GSAI-ML/LLaDA-8B-Instruct --private
  conv-dlm push outputs/run --dry-run --stage staged     (to look at, or to load with `from_pretrained`)
"""
WIDTH = 100  # columns of the lists of names


def add_arguments(parser: Parser) -> None:
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="folder of a model, an adapter, `custom_generate` or a Space")
    add("--repo-id", metavar="NAME", help="namespace/name on the Hub; made if it does not exist")
    add("--dry-run", action="store_true", help="stage, show and check; upload nothing")
    add("--stage", metavar="DIR", help="stage into this new folder and leave it there (default: a temporary one)")
    add("--base-model", metavar="NAME", help="the adapter's base model, as it is named on the Hub")
    add("--private", action="store_true", default=None, help="make the repository private, if it is new")
    add("--revision", metavar="BRANCH", help="an existing branch (default: the main one)")
    add("--create-pr", action="store_true", help="open a pull request instead of committing")
    add("--commit-message", metavar="TEXT", help="of the commit")


def run(args: argparse.Namespace) -> int:
    if args.repo_id is None and not args.dry_run:
        raise ValueError("`--repo-id` is needed to upload; `--dry-run` does without.")
    from huggingface_hub.utils import validate_repo_id

    from conv_dlm.hub import push, stage
    from conv_dlm.hub.checks import advice, problems

    if args.repo_id is not None:
        validate_repo_id(args.repo_id)
    with ExitStack() as stack:
        target = args.stage or stack.enter_context(_folder_beside(Path(args.folder).expanduser()))
        staged = stage(args.folder, target, args.base_model)
        print(listing(staged, args.repo_id))
        for sentence in advice(staged):
            note(f"advice: {sentence}")
        if wrong := problems(staged):
            for sentence in wrong:
                note(f"wrong: {sentence}")
            return MISTAKE
        if args.dry_run:
            note("All is well. Nothing was uploaded.")
            return 0
        address = push(
            staged,
            args.repo_id,
            private=args.private,
            revision=args.revision,
            create_pr=args.create_pr,
            commit_message=args.commit_message,
        )
    print(address)
    return 0


def _folder_beside(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder on the same file system where that may be, so that weights are linked and not copied."""
    parent = Path(os.path.realpath(folder)).parent  # which doesn't mind a link to itself
    return tempfile.TemporaryDirectory(prefix=".staged-", dir=parent if os.access(parent, os.W_OK) else None)


def listing(staged: "Staged", repo_id: str | None) -> str:
    """What goes to the Hub and what does not, to read."""
    sizes = {name: (staged.folder / name).stat().st_size for name in staged.given + staged.added}
    column = max(len(name) for name in staged.given)
    lines = [f"{staged.kind.name.lower()} for {repo_id or '(no repository named)'}", ""]
    lines += [f"  {name:{column}}  {in_words(sizes[name]):>9}" for name in staged.given]
    if staged.added:
        size = in_words(sum(sizes[name] for name in staged.added))
        lines += ["", f"added by conv-dlm, {len(staged.added)} files, {size}:", _names(staged.added)]
    if staged.left_out:
        lines += ["", "left out:", _names(staged.left_out)]
    return "\n".join([*lines, "", f"{len(sizes)} files, {in_words(sum(sizes.values()))}"])


def in_words(size: float) -> str:
    """A size in bytes, as the Hub writes it: in powers of ten."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _names(names: list[str]) -> str:
    return textwrap.fill(", ".join(names), WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
