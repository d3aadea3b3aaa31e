"""The API reference is built from the docstrings without a warning, has all names, and no dead link."""

import inspect
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

import conv_dlm
import conv_dlm.generation
import conv_dlm.models
import conv_dlm.word_problems
import trainers

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = [
    value
    for module in (conv_dlm, conv_dlm.generation, conv_dlm.models, conv_dlm.word_problems, trainers)
    for value in (getattr(module, name) for name in module.__all__)
    if inspect.isclass(value) or inspect.isfunction(value)
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """The text of each page by its path; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    config.plugins.on_shutdown()
    return {path: path.read_text() for path in folder.rglob("index.html")}


@pytest.mark.parametrize("value", PUBLIC, ids=lambda value: value.__name__)
def test_every_public_name_has_an_entry(value: type, site: dict[Path, str]) -> None:
    entry = f'id="{value.__module__}.{value.__qualname__}"'
    assert any(entry in text for text in site.values()), f"add {entry} to a page of docs/api"


def test_links_lead_somewhere(site: dict[Path, str]) -> None:
    assert len(site) > 5
    for page, text in site.items():
        for link in re.findall(r'href="([^"]+)"', text):
            path, anchor = urldefrag(unquote(link))
            if re.match(r"\w+:", path) or path.startswith("//"):
                continue
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page.parent.name}: {link}"
            if anchor and target in site:
                assert f'id="{anchor}"' in site[target], f"{page.parent.name}: {link}"
