"""The small checkpoint in the package, so that `generate` works offline from the start."""

from pathlib import Path

EMBEDDED_NAME = "conv-dlm-word-problems"

_PACKAGE = Path(__file__).resolve().parents[1]
_PLACES = (
    _PACKAGE / "_embedded" / EMBEDDED_NAME,  # in an installed wheel (pyproject.toml copies it there)
    _PACKAGE.parent / "hub_cards" / EMBEDDED_NAME,  # in a checkout, the only copy
)


def embedded_checkpoint() -> str:
    """The folder of the embedded checkpoint, ready for `from_pretrained`.

    Returns:
        `str`: absolute path of a folder with config, weights, tokenizer and model card.

    Raises:
        FileNotFoundError: the package was installed without the checkpoint.
    """
    for place in _PLACES:
        if (place / "config.json").is_file() and any(place.glob("*.safetensors")):
            return str(place)
    looked = " nor ".join(str(place) for place in _PLACES)
    raise FileNotFoundError(
        f"The embedded checkpoint {EMBEDDED_NAME!r} is neither in {looked}: reinstall conv-dlm from a "
        "wheel or a full checkout, or name another model."
    )
