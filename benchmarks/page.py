"""Pages whose tables and plots are written by a command, between marks: no figure is copied by hand.

    python -m benchmarks.page benchmarks/results/grpo --section grpo --page docs/results.md

writes what a study has left in a folder, its table.md with the description of the run in table.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any


def marks(name: str) -> tuple[str, str]:
    """What stands before and behind a section."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def fill_in(page: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of a section.

    Raises:
        ValueError: the page has not both marks.
    """
    begin, end = marks(name)
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{page} has no section between `{begin}` and `{end}` to replace; put both marks into it.")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


def measured(run: dict[str, Any]) -> str:
    """When, where and by which command a result came about."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    told = f"Measured on {run['date'][:10]} at commit {run['commit']}, on {run['device']} with {versions}:"
    return f"{told}\n\n```text\n{run['command']}\n```"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output folder of a study")
    parser.add_argument("--section", required=True, help="name of the page's marks")
    parser.add_argument("--page", type=Path, required=True)
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    run = json.loads((args.folder / "table.json").read_text(encoding="utf-8"))
    table = (args.folder / "table.md").read_text(encoding="utf-8")
    fill_in(args.page, args.section, f"{measured(run)}\n\n{table}")


if __name__ == "__main__":
    main()
