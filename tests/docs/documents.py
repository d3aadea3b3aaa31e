"""The documents of the repository and their blocks."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {"tests", "dist", "outputs"}  # nor are hidden folders: pytest writes a README into its cache
FOLDERS = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in NOT_OURS and path.name[0] != "."]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in folder.rglob("*.md"))])


class Block(NamedTuple):
    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document; those in lists, indented, too."""
    text = document.read_text()
    fences = re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, flags=re.MULTILINE | re.DOTALL)
    return [
        Block(document, text.count("\n", 0, f.start()) + 1, f[2], re.sub(f"^{f[1]}", "", f[3], flags=re.MULTILINE))
        for f in fences
    ]


BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
