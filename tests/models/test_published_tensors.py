"""Every tensor of the originals' case files: given to the model as it was to theirs, or compared with what comes out.

`COMPARED` says how, by name. A tensor that no line knows fails, and one that is never read.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import DynamicCache

from conv_dlm.generation.cache import CanvasCache
from conv_dlm.models.cache_argument import CACHE_FIELD
from tests.models.families import BLOCK_LENGTHS, FAMILIES, FIXTURES, load

GIVEN = r"(\w+_)?(input_ids|attention_mask|position_ids|attended)|sub_start|moe_input"
# cases whose mask a model makes by itself, and what it is told
BY_ITSELF: dict[str, dict[str, Any]] = {
    "": {}, "block_": {}, "ragged_": {}, "otherblock_": {"block_length": 8},
    "block_nopad_": {"attention_pattern": "block_causal", "block_length": 4},
}  # fmt: skip
Pairs = Iterator[tuple[Tensor, Tensor]]  # ours, theirs


class Original:
    """A model, and what was recorded of the original one."""

    def __init__(self, family: str, attention: str) -> None:
        self.family, self.attention = family, attention
        self.tensors = load_file(FIXTURES / family / "cases.safetensors")
        self.read: set[str] = set()
        self.model = self.load()

    def load(self, **kwargs: Any) -> Any:
        return load(self.family, attn_implementation=self.attention, **kwargs)

    def __getitem__(self, name: str) -> Tensor:
        self.read.add(name)
        return self.tensors[name]

    def find(self, name: str) -> Tensor | None:
        return self[name] if name in self.tensors else None

    def seen(self, case: str) -> Tensor | None:
        """[1 or B, 1, Q, K]: which keys a query sees. Transformers' eager attention gets boolean masks wrong."""
        seen = self.find(f"{case}attended")
        return None if seen is None else (seen[None] if seen.dim() == 2 else seen)[:, None]

    def makes_its_mask(self, case: str) -> bool:
        return case in BY_ITSELF and (case in ("", "block_nopad_") or self.family in BLOCK_LENGTHS)


def of_logits(its: Original, case: str) -> Pairs:
    """With each mask that says what is seen, at the positions that see something."""
    ids, theirs, positions = its[f"{case}input_ids"], its[f"{case}logits"], its.find(f"{case}position_ids")
    seen, padding = its.seen(case), its.find(f"{case}attention_mask")
    if seen is not None:
        real = seen[:, 0].any(-1).expand(ids.shape)
        yield its.model(ids, attention_mask=seen, position_ids=positions).logits[real], theirs[real]
    if padding is not None:
        for given in (None, positions):
            ours = its.model(ids, attention_mask=padding, position_ids=given).logits
            yield ours[padding.bool()], theirs[padding.bool()]
    if its.makes_its_mask(case):
        yield its.load(**BY_ITSELF[case])(ids).logits, theirs


def of_cached_logits(its: Original, case: str) -> Pairs:
    """The last block over the keys and values of those before."""
    ids, theirs, seen, positions = (
        its[f"{case}input_ids"], its[f"{case}cached_logits"], its.seen(case), its[f"{case}position_ids"]
    )  # fmt: skip
    assert seen is not None
    prefix = ids.shape[1] - theirs.shape[1]
    ways = [(its.model, seen[:, :, :prefix, :prefix], seen[:, :, prefix:])]
    if its.makes_its_mask(case):
        ways.append((its.load(**BY_ITSELF[case]), None, None))
    for model, before, now in ways:
        cache = DynamicCache(config=model.config)
        model(ids[:, :prefix], attention_mask=before, position_ids=positions[:, :prefix], past_key_values=cache)
        output = model(ids[:, prefix:], attention_mask=now, position_ids=positions[:, prefix:], cache=cache)
        assert cache.get_seq_length() == ids.shape[1] and getattr(output, CACHE_FIELD) is cache
        yield output.logits, theirs


def of_sub_block(its: Original, _: str) -> Pairs:
    """A sub-block over what the rest of its block was in an older forward."""
    ids, theirs, start = its["sub_input_ids"], its["sub_stale_logits"], int(its["sub_start"])
    rows, length = list(range(len(ids))), ids.shape[1]
    place = torch.arange(start, start + theirs.shape[1]).expand(len(ids), -1)
    cache, seen = CanvasCache(its.model, len(ids), length), its.seen("block_")
    assert seen is not None
    cache.select(rows, None, length, ids.device)
    its.model(its["block_input_ids"], cache=cache)
    cache.select(rows, place, length, ids.device)
    mask = seen[:, :, start : start + theirs.shape[1]]
    yield its.model(ids.gather(1, place), attention_mask=mask, position_ids=place, cache=cache).logits, theirs


def of_bfloat16(its: Original, case: str) -> Pairs:
    """Much nearer to the original, which ran SDPA, than that is to float32; kernels of CPUs differ."""
    theirs = its[f"{case}logits_bf16"].float()
    model = load(its.family, dtype=torch.bfloat16, experts_implementation="eager", attn_implementation="sdpa")
    ours = model(its[f"{case}input_ids"]).logits.float()
    rounding = (theirs - its[f"{case}logits"]).abs().mean()
    yield torch.relu((ours - theirs).abs().mean() - 0.3 * rounding), torch.tensor(0.0)


def of_predictions(its: Original, _: str) -> Pairs:
    """The best token of each mask, by the logits at its left."""
    ids = its["input_ids"]
    logits = its.model(ids).logits
    best = torch.cat((logits[:, :1], logits[:, :-1]), 1).argmax(-1)
    yield torch.where(ids == its.model.config.mask_token_id, best, ids), its["predicted"]


def of_hidden_states(its: Original, layer: str) -> Pairs:
    """Of the first row; the last ones with the final norm."""
    ids = its.find("input_ids")
    ids = its["block_input_ids"] if ids is None else ids
    yield its.model(ids, output_hidden_states=True).hidden_states[int(layer)][0], its[f"hidden_states.{layer}"]


def of_experts(its: Original, _: str) -> Pairs:
    """The last layer's experts by themselves: which, with which weights, and what comes out."""
    block, chosen = its.model.model.layers[-1].mlp, []
    with block.experts.register_forward_pre_hook(lambda _, given: chosen.append(given[1:])):
        output = block(its["moe_input"][None])
    (index, order), weight = chosen[0][0].sort(-1), chosen[0][1]
    theirs, their_order = its["moe_expert_index"].sort(-1)
    yield index, theirs
    yield weight.gather(1, order), its["moe_expert_weight"].gather(1, their_order)
    yield output[0], its["moe_output"]


COMPARED: dict[str, Callable[[Original, str], Pairs]] = {
    r"(|left_|right_|block_|block_nopad_|otherblock_|ragged_|train_)logits": of_logits,
    r"(block_|otherblock_)cached_logits": of_cached_logits,
    r"(|block_)logits_bf16": of_bfloat16,
    r"hidden_states\.(\d)": of_hidden_states,
    r"(moe)_(expert_index|expert_weight|output)": of_experts,
    r"(predicted)": of_predictions,
    r"(sub)_stale_logits": of_sub_block,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_every_tensor_of_the_original_is_ours(family, attention):
    its, done = Original(family, attention), set()
    for name in sorted(its.tensors):
        if re.fullmatch(GIVEN, name):
            continue
        compare, case = next(
            (function, found[1]) for kind, function in COMPARED.items() if (found := re.fullmatch(kind, name))
        )
        if (compare, case) in done:
            continue
        done.add((compare, case))
        pairs = list(compare(its, case))
        assert pairs
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=FAMILIES[family][1], msg=f"{name} differs")
    assert its.read == its.tensors.keys()
