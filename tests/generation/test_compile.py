"""Compiled forwards: the same text, and few graphs whatever the shapes."""

import pytest
import torch
from transformers import CompileConfig

from benchmarks.step_overhead import StubLM
from conv_dlm import DECODE_TYPES
from conv_dlm.generation import UNMASKING_RULES
from conv_dlm.generation.cache import CanvasCache
from conv_dlm.models import LLaDAConfig

MASK, PAD = 3, 0
PROMPTS = torch.tensor([[PAD, PAD, 1, 40, 50], [1, 44, MASK, 81, 82], [1, 5, 6, 7, 8]])
TEXT = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]])


graphs = []


@pytest.fixture
def stub(tiny_llada):
    """For what is not about the model: most of the time goes into reading its forward, layer after layer."""
    return StubLM(LLaDAConfig.from_dict(tiny_llada.config.to_dict()), torch.float32)


def counting(graph, inputs):
    """A backend that compiles nothing."""
    graphs.append(graph)
    return graph.forward


def kinds_of(graphs):
    """Of the model, the draw (logits to candidates), the rule: how many graphs each."""
    codes = [graph.code for graph in graphs]
    of_model = ["embedding" in code or "parameters_table" in code for code in codes]
    model = sum(of_model)
    draw = sum("logsumexp" in code and not its for code, its in zip(codes, of_model, strict=True))
    return model, draw, len(codes) - model - draw


def run(model, **keywords):
    generators = [torch.Generator().manual_seed(row) for row in range(3)]
    return model.generate(
        PROMPTS, attention_mask=TEXT, generator=generators, max_new_tokens=48, return_dict_in_generate=True, **keywords
    )


CONV = dict(decode_type="conv", kernel_size=16, steps=40)
WINDOW = dict(
    decode_type="conv_threshold", kernel_size=16, threshold=0.5, lookahead=16, cache_implementation="window",
    cache_refresh_interval=5, eos_token_id=list(range(230, 260)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "settings"),
    [
        (1, CONV),
        (2, CONV | dict(cache_implementation="window", cache_refresh_interval=6)),
        (1, WINDOW),
        (1, dict(decode_type="threshold", block_length=20, threshold=0.1, cache_implementation="dual")),
    ],
)
def test_compiled_forwards(make_llada, monkeypatch, layers, settings):
    torch._dynamo.reset()
    graphs.clear()
    model = make_llada(n_layers=layers)
    config = CompileConfig(fullgraph=True, mode=None, backend=counting)
    plain, named, idle = run(model, **settings), [], []
    select = CanvasCache.select

    def watched(self, *args):
        select(self, *args)
        named.append(self.selection.rows)
        idle.append(self.selection.active is not None)

    monkeypatch.setattr(CanvasCache, "select", watched)
    compiled = run(model, **settings, compile=True, compile_config=config)
    assert torch.equal(plain.sequences, compiled.sequences)
    assert torch.equal(plain.unmasked_at, compiled.unmasked_at) and torch.equal(plain.forwards, compiled.forwards)
    count = len(graphs)
    forwards_graphs, draws, rules = kinds_of(graphs)
    assert 1 <= forwards_graphs <= 8 < int(plain.forwards.max())
    assert 1 <= draws <= forwards_graphs + 1 and 1 <= rules <= 2
    run(model, **settings, compile=True, compile_config=config)
    assert len(graphs) == count  # a second run finds all of them
    # Rows that need no forward, or another one, stay in a cache without effect: nothing is picked out of it, or copied.
    assert all(rows is None for rows in named) and bool(named) == ("cache_implementation" in settings)
    assert settings is not WINDOW or (any(idle) and not all(idle))


SIZES = {"steps": 24, "kernel_size": 16, "block_length": 16, "threshold": 0.2, "factor": 2.5, "entropy_bound": 4.0}


@pytest.mark.parametrize("name", ["llada", "remdm_conv", "conv_entropy"])
def test_draw_and_rule_are_compiled_once(stub, name):
    """Their code is the same in every step; a new graph is one of another shape, or of the last fill."""
    torch._dynamo.reset()
    graphs.clear()
    model, kind = stub, DECODE_TYPES[name]
    settings = {"decode_type": name, **{field: value for field, value in SIZES.items() if field in kind.fields}}
    config = CompileConfig(fullgraph=True, mode=None, backend=counting)
    plain, compiled = run(model, **settings), run(model, **settings, compile=True, compile_config=config)
    for field in ("sequences", "unmasked_at", "forwards", "log_probs"):
        assert torch.equal(plain[field], compiled[field])
    _, draws, rules = kinds_of(graphs)
    assert 1 <= draws <= 3 and 1 <= rules <= 2 and int(plain.forwards.max()) > 15


def test_a_rule_that_cannot_be_compiled_runs_as_it_is(stub, monkeypatch):
    """It looks at values from Python in every step."""
    seen = []

    rule = UNMASKING_RULES["threshold"]
    decide = rule.__call__

    def looking(self, now):
        seen.append(int(now.canvas.masked.sum()))
        return decide(self, now)

    monkeypatch.setattr(rule, "__call__", looking)
    torch._dynamo.reset()
    config = CompileConfig(fullgraph=True, mode=None, backend=counting)
    settings = dict(decode_type="threshold", block_length=16, threshold=0.2)
    plain, first = run(stub, **settings), list(seen)
    seen.clear()
    compiled = run(stub, **settings, compile=True, compile_config=config)
    assert torch.equal(plain.sequences, compiled.sequences) and seen == first and len(seen) > 8
