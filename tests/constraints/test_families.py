"""Constraints on every family: logits that are shifted, blocks that see no later ones, caches, mixtures of experts."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from conv_dlm import JSONSchema, Regex
from tests.models.families import BLOCK_LENGTHS, FAMILIES, load
from tests.models.test_family_generation import MASKS

PAD, EOS = 0, 1
SCHEMA = JSONSchema({"properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}}, "required": ["n", "ok"]})
DATE = Regex("[0-9]{4}-[0-9]{2}")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each character of ASCII, which the golden models' vocabularies have room for."""
    names = ["<pad>", "<eos>", "Ġ", *map(chr, range(0x21, 0x7F))]
    made = Tokenizer(models.BPE({name: n for n, name in enumerate(names)}, []))
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", padding_side="left")


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_in_the_language(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = load(family)
    ids = torch.tensor([[5, 9, 23, 77, 41, 60, 11], [0, 0, 8, 15, 16, 23, 42]])
    for settings in (
        {"decode_type": "threshold", "threshold": 0.3},
        {"decode_type": "semi_ar", "steps": 12},
        {"decode_type": "conv", "steps": 12, "kernel_size": 9},
        {"decode_type": "threshold", "threshold": 0.3, "cache_implementation": "block"},
    ):
        its = dict(settings) if settings["decode_type"] == "conv" else {"block_length": BLOCK_LENGTHS.get(family, 8)}
        if settings.get("cache_implementation") and family not in BLOCK_LENGTHS:
            continue
        out = model.generate(
            ids, attention_mask=(ids != PAD).long(), max_new_tokens=33, eos_token_id=EOS, pad_token_id=PAD,
            mask_token_id=MASKS[family.partition("_")[0]], tokenizer=tokenizer, constraint=[SCHEMA, DATE],
            generator=[torch.Generator().manual_seed(row) for row in range(2)], **{**settings, **its},
        )  # fmt: skip
        assert torch.equal(out[:, :7], ids)
        first, second = (tokenizer.decode([t for t in row if t > EOS]) for row in out[:, 7:].tolist())
        assert set(json.loads(first)) == {"n", "ok"} and SCHEMA.holds(first), (settings, first)
        assert DATE.holds(second), (settings, second)
