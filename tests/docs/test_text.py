"""The documents are true: Python blocks run, links lead somewhere, tables and shown output are those of the code.

Nothing is skipped: a block in an unknown language, a link to nowhere or a place left to fill in fails.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from conv_dlm.generation import (
    CACHE_POLICIES,
    DECODE_TYPES,
    EXIT_SCHEDULES,
    POSITION_WEIGHTS,
    STATISTICS,
    UNMASKING_RULES,
)
from conv_dlm.generation.configuration import user_settings
from conv_dlm.word_problems import check, problem
from tests.docs.documents import BLOCKS, DOCUMENTS, ROOT, blocks

SHOWN_ONLY = {"text", "bibtex"}  # languages of blocks that are not for running
PYTHON = [document for document in DOCUMENTS if any(block.language == "python" for block in blocks(document))]


@pytest.mark.parametrize("document", PYTHON, ids=lambda document: str(document.relative_to(ROOT)))
def test_python(
    document: Path, with_stand_ins: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The Python blocks of a document, one after the other, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(document):
        if block.language == "python":
            padding = "\n" * block.line  # so that a traceback names the document's line
            exec(compile(padding + with_stand_ins(block.text), str(document), "exec"), names)


def test_every_block_is_known() -> None:
    unknown = [str(b) for b in BLOCKS if b.language not in SHOWN_ONLY | {"bash", "python"}]
    assert not unknown, "a block needs a language: bash and python are run, text and bibtex are shown"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"https?:|mailto:", target):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_nothing_is_left_to_fill_in(document: Path) -> None:
    assert not re.search(r"FILL[ -]IN|TODO|TBD", document.read_text())


@cache
def readme() -> str:
    return (ROOT / "README.md").read_text()


def settings_table() -> list[str]:
    """The lines of the README's table of settings, read off the parts."""
    kinds = (POSITION_WEIGHTS, UNMASKING_RULES, CACHE_POLICIES, EXIT_SCHEDULES, STATISTICS)
    lines = ["| setting | default | of | what it is |", "|---|---|---|---|"]
    for name, its in user_settings().items():
        default = "" if its.default is None else f"`{its.default}`"
        owners = [f"`{key}`" for parts in kinds for key, part in parts.items() if name in part.settings()]
        source = re.sub(r"arXiv (\d{4}\.\d{5})", r"[\1](https://arxiv.org/abs/\1)", its.source)
        what = f"{its.help} ({source})" if source else its.help
        lines.append(f"| `{name}` | {default} | {', '.join(owners) or 'all'} | {what.replace('|', '/')} |")
    return lines


def test_settings_table() -> None:
    """The README's table has every setting, as its part declares it."""
    assert "\n".join(["", *settings_table(), ""]) in readme()


def test_decode_types_table() -> None:
    """The README's table has every decode type, with the parts it is made of."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+ \| \w+) \| .* \|$", readme(), flags=re.MULTILINE))
    assert rows == {name: f"{parts.weights} | {parts.rule}" for name, parts in DECODE_TYPES.items()}


def test_tokens_per_forward_are_as_measured() -> None:
    """That table's figures are those of the results file, which knows its command; "–" where there are none yet."""
    results = json.loads((ROOT / "benchmarks/results/decode_types.json").read_text())
    measured = {case["name"]: f"{case['tokens_per_forward'][0]:.1f}" for case in results["cases"]}
    shown = dict(re.findall(r"^\| `(\w+)` \| \w+ \| \w+ \| ([\d.]+|–) \| .* \|$", readme(), flags=re.MULTILINE))
    assert set(shown) == set(DECODE_TYPES) >= set(measured)
    assert {name: figure for name, figure in shown.items() if figure != "–"} == measured


def test_ci_runs_the_readmes_test_command() -> None:
    script = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]
    assert script[-2:] == ["make test", "make test-versions"]
    assert "```bash\nmake test" in readme()


def test_shown_output_is_the_demos() -> None:
    """The README shows what `make demo` says: a problem of the generator, an answer that is right, the speed line."""
    shown = next(block.text for block in BLOCKS if block.document.name == "README.md" and block.language == "text")
    command, question, *answer, verdict, last = [line for line in shown.splitlines() if line]
    figures = re.fullmatch(r"problem (\d+): \d+ tokens in ([\d.]+) s \(.*\), \d+ forwards, .* per forward", last)
    assert figures is not None
    number, speed = figures.groups()
    assert command == f"$ conv-dlm problem {number}" and float(speed) < 5
    asked = problem(0, int(number), split="test", levels=(1, 3))
    assert question == asked.question
    assert verdict == check(asked.question, "\n".join(answer), asked.answer).in_words(asked.answer)
    assert verdict.startswith("right")


def test_first_screen() -> None:
    """What a newcomer sees first: what it is, real output, how to run it, how to test it."""
    screen = "\n".join(readme().splitlines()[:60])
    for wanted in ("make demo", "python3 dev.py demo", "make test", "```text", "2509.15188"):
        assert wanted in screen
