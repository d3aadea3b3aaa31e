"""What would make a staged folder useless or wrong on the Hub, found before it is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import yaml
from huggingface_hub import ModelCard
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME

from conv_dlm.answering.loading import is_path
from conv_dlm.hub.staging import CARD, ENTRY, Kind, Staged

LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")


def problems(staged: Staged) -> list[str]:
    """One sentence for each thing that is wrong; empty if the folder may go."""
    found = list(_of_card(staged))
    if staged.kind in (Kind.MODEL, Kind.ADAPTER):
        found += _of_weights(staged)
    if staged.kind is Kind.MODEL:
        found += _of_code(staged.folder, _entries(staged.folder))
        if not (staged.folder / "tokenizer_config.json").is_file():
            found.append("There is no tokenizer: save it into the folder too (`tokenizer.save_pretrained`).")
    if staged.kind is Kind.CUSTOM_GENERATE:
        found += _of_code(staged.folder, [ENTRY])
    if staged.kind is Kind.ADAPTER:
        found += _of_base(staged.folder)
    return found


def advice(staged: Staged) -> list[str]:
    """One sentence for each thing that a reader of the page will miss."""
    path = staged.folder / CARD
    if staged.kind is Kind.SPACE or not path.is_file():
        return []
    data = ModelCard.load(path, ignore_metadata_errors=True).data
    if not data.license:
        return ["The card names no licence: add `license:` to its metadata, for the weights and their data."]
    return []


def _of_card(staged: Staged) -> Iterator[str]:
    path = staged.folder / CARD
    if not path.is_file():
        yield f"There is no {CARD}: write a model card (conv-dlm's trainers do so when they save a model)."
        return
    text = path.read_text(encoding="utf-8")
    try:
        card = staged.kind.card_class(text)
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        yield f"The metadata of {CARD} are wrong: {str(error).strip().splitlines()[0]}"
        return
    if not card.data.to_dict():
        yield f"{CARD} has no metadata: begin it with a YAML block between two lines of `---`."
    for link in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        address = urlparse(link)
        if not address.scheme and address.path and not (staged.folder / address.path).exists():
            yield f"{CARD} links to {link!r}, which will not be there: name a full address."


def _of_weights(staged: Staged) -> Iterator[str]:
    files = [name for name in staged.given if name.endswith(".safetensors")]
    if not files:
        yield "There are no weights (*.safetensors)."
    for name in files:
        try:
            with safe_open(staged.folder / name, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            yield f"{name} cannot be read: {error}"
    index = staged.folder / SAFE_WEIGHTS_INDEX_NAME
    if index.is_file():
        needed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if missing := sorted(needed - set(files)):
            yield f"{SAFE_WEIGHTS_INDEX_NAME} names {', '.join(missing)}, which are not there."


def _entries(folder: Path) -> list[str]:
    auto_map = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))["auto_map"]
    return sorted({reference.partition(".")[0] + ".py" for reference in auto_map.values()})


def _of_code(folder: Path, entries: list[str]) -> Iterator[str]:
    """Whether all is there that Transformers will look for, by its own reading of the imports."""
    for entry in entries:
        try:
            get_relative_import_files(folder / entry)
        except FileNotFoundError as error:
            yield f"{Path(error.filename).relative_to(folder)}, which {entry} needs, is not there."


def _of_base(folder: Path) -> Iterator[str]:
    name = json.loads((folder / ADAPTER_CONFIG_NAME).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not name or is_path(name):
        yield f"The adapter's base model is {name!r}, which nobody else has; name it as on the Hub (--base-model)."
