"""Compiled forwards: the same text, and few graphs whatever the shapes."""

import copy

import pytest
import torch
from transformers import CompileConfig

from conv_dlm.generation.cache import CanvasCache

MASK, PAD = 3, 0
PROMPTS = torch.tensor([[PAD, PAD, 1, 40, 50], [1, 44, MASK, 81, 82], [1, 5, 6, 7, 8]])
TEXT = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]])


graphs = []


def counting(graph, inputs):
    """A backend that compiles nothing."""
    graphs.append(graph)
    return graph.forward


def run(model, **keywords):
    generators = [torch.Generator().manual_seed(row) for row in range(3)]
    return model.generate(
        PROMPTS, attention_mask=TEXT, generator=generators, max_new_tokens=48, return_dict_in_generate=True, **keywords
    )


@pytest.mark.parametrize(
    "settings",
    [
        dict(decode_type="conv", kernel_size=16, steps=40),
        dict(decode_type="conv", kernel_size=16, steps=40, cache_implementation="window", cache_refresh_interval=6),
        dict(decode_type="conv_threshold", kernel_size=16, cache_implementation="window", lookahead=16),
        dict(decode_type="threshold", block_length=20, threshold=0.1, cache_implementation="dual"),
    ],
)
def test_compiled_forwards(tiny_llada, settings):
    torch._dynamo.reset()
    graphs.clear()
    model = copy.deepcopy(tiny_llada)
    config = CompileConfig(fullgraph=True, mode=None, backend=counting)
    plain, compiled = run(model, **settings), run(model, **settings, compile=True, compile_config=config)
    assert torch.equal(plain.sequences, compiled.sequences)
    assert torch.equal(plain.unmasked_at, compiled.unmasked_at) and torch.equal(plain.forwards, compiled.forwards)
    count = len(graphs)
    assert 1 <= count <= 8 < int(plain.forwards.max())
    run(model, **settings, compile=True, compile_config=config)
    assert len(graphs) == count  # a second run finds all of them


def test_no_compiled_forward_copies_the_cache(tiny_llada, monkeypatch):
    """Rows that need no forward, or another one, stay in it without effect: nothing is picked out of the cache."""
    torch._dynamo.reset()
    model, named, idle = copy.deepcopy(tiny_llada), [], []
    select = CanvasCache.select

    def watched(self, *args):
        select(self, *args)
        named.append(self.selection.rows)
        idle.append(self.selection.active is not None)

    monkeypatch.setattr(CanvasCache, "select", watched)
    config = CompileConfig(fullgraph=True, mode=None, backend=counting)
    run(
        model, decode_type="conv_threshold", kernel_size=16, cache_implementation="window", threshold=0.5,
        cache_refresh_interval=5, eos_token_id=list(range(230, 260)), compile=True, compile_config=config,
    )  # fmt: skip
    assert named and all(rows is None for rows in named) and any(idle) and not all(idle)
