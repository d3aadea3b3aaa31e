"""Caches of keys and values: exact where nothing is kept, and where it is, exactly what is meant to be kept."""

import copy
import itertools

import pytest
import torch
from transformers.cache_utils import Cache
from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask
from transformers.modeling_utils import AttentionInterface

from conv_dlm.generation import DECODE_TYPES, UNMASKING_RULES, UnmaskingRule
from conv_dlm.generation.cache import CanvasCache
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.denoiser import Denoiser
from conv_dlm.generation.plan import positions_of
from conv_dlm.models import MDLM, MDLMConfig
from tests.tiny import widened

MASK, EOS, PAD = 3, 2, 0
BLOCKS = sorted(name for name, parts in DECODE_TYPES.items() if parts.weights == "block")
PROMPTS = torch.tensor([[PAD, PAD, 1, 40, 50, 60, 70], [1, 44, MASK, MASK, 80, 81, 82]])
TEXT = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]])


def random_mdlm():
    """An MDLM for the same tokens, wide enough that its logits differ by more than rounding."""
    config = MDLMConfig(
        vocab_size=260, model_length=256, hidden_dim=32, n_blocks=2, n_heads=4, cond_dim=8, dropout=0.0,
        mask_token_id=MASK, eos_token_id=EOS, pad_token_id=PAD, bos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return widened(MDLM(config))


@pytest.fixture(scope="module", params=["llada", "grouped", "mdlm"])
def model(request, tiny_llada, make_llada):
    makers = {"llada": lambda: tiny_llada, "grouped": lambda: make_llada(n_kv_heads=2), "mdlm": random_mdlm}
    return makers[request.param]()


def run(model, ids=PROMPTS, mask=TEXT, seed=0, **keywords):
    parts = DECODE_TYPES[keywords["decode_type"]]
    keywords = dict(max_new_tokens=40, return_dict_in_generate=True, output_history=True) | keywords
    if "steps" in parts.fields:
        keywords.setdefault("steps", 12)
    if parts.weights == "block":
        keywords.setdefault("block_length", 8)
    if parts.weights == "convolution":
        keywords.setdefault("kernel_size", 8)
    generators = [torch.Generator().manual_seed(seed + row) for row in range(len(ids))]
    return model.generate(ids, attention_mask=mask, generator=generators, **keywords)


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in ("sequences", "unmasked_at", "forwards", "history"))


class Shapes:
    """What the model's forwards computed: rows, positions, keys."""

    def __init__(self, model):
        self.of = []
        self.handle = model.register_forward_pre_hook(self.note, with_kwargs=True)

    def note(self, module, args, kwargs):
        cache = kwargs.get("cache")
        rows, computed = kwargs["input_ids"].shape
        self.of.append((rows, computed, computed if cache is None else cache.selection.end))

    def __enter__(self):
        return self.of

    def __exit__(self, *_):
        self.handle.remove()


CACHED = sorted(
    name
    for name, kind in DECODE_TYPES.items()
    if (rule := UNMASKING_RULES[kind.rule]).extra is UnmaskingRule.extra and rule.is_alone()
)
FEW = ("conv", "llada", "threshold")  # whether heads share keys and values makes no difference to what is kept


@pytest.mark.parametrize(
    ("model", "decode_type"),
    [*itertools.product(["llada", "mdlm"], CACHED), *itertools.product(["grouped"], FEW)],
    indirect=["model"],
)
def test_a_window_that_is_refreshed_every_time_changes_nothing(model, decode_type):
    """Left padding, masks inside the prompt with text at their right, and each decode type."""
    settings = dict(decode_type=decode_type, max_new_tokens=24)
    cached = run(model, **settings, cache_implementation="window", cache_refresh_interval=1)
    assert same(run(model, **settings), cached)


@pytest.mark.parametrize(
    "keywords",
    [
        dict(guidance_scale=1.7),
        dict(eos_threshold=0.01),
        dict(exit_schedule="linear", exit_high=2.0, exit_low=0.5),
        dict(max_new_tokens=0),
        dict(lookahead=16, max_new_tokens=120),
        dict(eos_fill=True, temperature=1.5, top_k=0),
    ],
)
def test_so_does_none_with_other_settings(model, keywords):
    settings = dict(decode_type="conv") | keywords
    cached = run(model, **settings, cache_implementation="window", cache_refresh_interval=1)
    assert same(run(model, **settings), cached)


@pytest.mark.parametrize("cache", ["window", "dual", "prefix"])
@pytest.mark.parametrize("guidance_scale", [1.0, 1.7])
def test_positions_that_did_not_change_are_as_if_all_were_computed(model, cache, guidance_scale):
    """A partial forward on the canvas of the full one gives its logits, whatever it computes."""
    canvas = Canvas.from_prompt(PROMPTS, 40, MASK, TEXT == 0)
    kept = CanvasCache(model, 2, 47, copies=1 if guidance_scale == 1 else 2)
    denoiser = Denoiser(model, canvas.padding, guidance_scale, False, kept)
    everything = torch.arange(47).expand(2, -1)
    full = denoiser(canvas, [0, 1], everything)
    random = torch.Generator().manual_seed(0)
    for rows in ([0, 1], [1], [0]):
        chosen = (torch.rand(2, 47, generator=random) < 0.3) & ~canvas.padding
        chosen[:, 30] = True
        chosen = chosen[torch.tensor(rows)]
        positions = positions_of(chosen, 32)
        window = positions_of(chosen, 20 if cache == "window" else 32)
        partial = denoiser(canvas, rows, window, positions=positions)
        expected = full[torch.tensor(rows)[:, None], window]
        torch.testing.assert_close(partial, expected, atol=2e-5, rtol=1e-5)


class OldStates(Cache):
    """A reference by hand: a forward over everything, in which the keys and values of some positions are replaced by
    those of an earlier forward, layer by layer."""

    def __init__(self, layers, old=None, computed=None):
        super().__init__(layers=[])
        self.old, self.computed, self.new = old, computed, [None] * layers

    def update(self, key, value, layer, *args, **kwargs):
        if self.old is not None:
            fresh = self.computed[:, None, :, None]
            key, value = torch.where(fresh, key, self.old[layer][0]), torch.where(fresh, value, self.old[layer][1])
        self.new[layer] = key, value
        return key, value

    def get_mask_sizes(self, query_length, layer):
        return query_length, 0

    def get_query_offset(self, layer=0):
        return 0

    def get_seq_length(self, layer=0):
        return 0


def test_what_is_kept_is_what_was_computed_last(model):
    """Three canvases one after the other, the second and the third by partial forwards: logits as the reference's."""
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 200, (2, 30), generator=random)
    canvas = Canvas.from_prompt(ids, 20, MASK)
    layers = model.config.num_hidden_layers
    kept = CanvasCache(model, 2, 50)
    denoiser = Denoiser(model, None, 1.0, False, kept)
    everything = torch.arange(50).expand(2, -1)
    denoiser(canvas, [0, 1], everything)
    reference = OldStates(layers)
    model(input_ids=canvas.ids, cache=reference)
    for changed in ([30, 33], [31, 35, 36]):
        where = torch.zeros(2, 50, dtype=torch.bool)
        where[:, changed] = True
        canvas.commit(where, torch.randint(4, 200, (2, 50), generator=random), 0)
        computed = where.clone()
        computed[0, 28:45] = computed[1, 25:40] = True
        positions = positions_of(computed, 18)
        partial = denoiser(canvas, [0, 1], positions, positions=positions)
        reference = OldStates(layers, reference.new, computed)
        expected = model(input_ids=canvas.ids, cache=reference).logits
        expected[..., MASK] = -torch.inf
        rows = torch.arange(2)[:, None]
        torch.testing.assert_close(partial, expected[rows, positions], atol=2e-5, rtol=1e-5)
        whole = model(input_ids=canvas.ids).logits[rows, positions]
        assert (partial[..., 4:] - whole[..., 4:]).abs().max() > 1e-3  # what was kept is stale, and can be told


def test_a_window_computes_a_part_of_the_canvas_and_everything_at_the_interval(tiny_llada):
    settings = dict(decode_type="conv_threshold", kernel_size=8, max_new_tokens=100, eos_token_id=None)
    with Shapes(tiny_llada) as shapes:
        out = run(
            tiny_llada, PROMPTS[1:], TEXT[1:], **settings, cache_implementation="window", cache_refresh_interval=5,
            cache_margin=2,
        )  # fmt: skip
    assert len(shapes) == int(out.forwards) > 20
    full = [number for number, (_, computed, _) in enumerate(shapes) if computed == 107]
    assert full[:4] == [0, 5, 10, 15]
    assert all(computed <= 48 for number, (_, computed, _) in enumerate(shapes) if number not in full)
    assert all(keys == 107 for *_, keys in shapes)


def test_a_partial_forward_computes_all_that_has_changed(tiny_llada, monkeypatch):
    """Each position whose token is another than when its keys and values were computed, in every partial forward."""
    kept, partial = torch.full((1, 107), -1), []
    forward = Denoiser.__call__

    def watched(self, canvas, rows, window, seen=None, end=None, positions=None, *others):
        if positions is None:
            kept[:] = canvas.ids
        else:
            changed = (canvas.ids != kept)[0].nonzero().flatten()
            assert set(changed.tolist()) <= set(positions[0].tolist())
            partial.append(len(changed))
            kept[0, positions[0]] = canvas.ids[0, positions[0]]
        return forward(self, canvas, rows, window, seen, end, positions, *others)

    monkeypatch.setattr(Denoiser, "__call__", watched)
    settings = dict(cache_implementation="window", cache_refresh_interval=10, max_new_tokens=100, eos_token_id=None)
    run(tiny_llada, PROMPTS[1:], TEXT[1:], decode_type="conv", kernel_size=8, steps=40, **settings)
    assert len(partial) > 20 and max(partial) > 1


@pytest.mark.parametrize("cache", ["window", "dual", "prefix"])
def test_rows_of_other_sizes_and_ends_change_nothing(tiny_llada, cache):
    """One row computes three times as many positions as another, and the first is finished first."""
    gaps = [MASK, 41] * 20
    prompts = torch.tensor([[1, *range(50, 90)], [1, *gaps], [1, *range(90, 130)]])
    ones = torch.ones_like(prompts)
    settings = dict(decode_type="threshold", block_length=16, threshold=0.15, max_new_tokens=100)
    settings |= dict(cache_implementation=cache, eos_token_id=[EOS, *range(236, 260)], pad_token_id=PAD)
    if cache == "window":
        settings |= dict(decode_type="conv_threshold", kernel_size=12, cache_refresh_interval=12)
        del settings["block_length"]
    with Shapes(tiny_llada) as shapes:
        together = run(tiny_llada, prompts, ones, **settings)
    sizes = {computed for _, computed, _ in shapes}
    assert len(sizes) >= (3 if cache == "window" else 2) and len(set(together.forwards.tolist())) > 1
    for row in range(3):
        alone = run(tiny_llada, prompts[row : row + 1], ones[:1], seed=row, **settings)
        assert torch.equal(alone.sequences[0], together.sequences[row])
        assert torch.equal(alone.unmasked_at[0], together.unmasked_at[row])
        assert alone.forwards[0] == together.forwards[row]


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_block_caches_compute_everything_on_entering_a_block(tiny_llada, cache):
    settings = dict(decode_type="threshold", block_length=16, max_new_tokens=64, eos_token_id=None, threshold=0.99)
    prompt = PROMPTS[1:, -3:]
    with Shapes(tiny_llada) as shapes:
        run(tiny_llada, prompt, torch.ones_like(prompt), **settings, cache_implementation=cache)
    computed = [positions for _, positions, _ in shapes]
    assert computed[0] == 67 and computed.count(67) >= 4  # behind the first block most of the canvas is its suffix
    if cache == "dual":
        assert len(computed) == 64 and computed == [67, *[16] * 15] * 4
    else:
        assert computed[-15:] == [16] * 15 and computed[-31:-16] == [32] * 15


def test_dual_and_prefix_are_exact_with_a_forward_for_each_block(tiny_llada):
    """All of a block is decided in the full forward that enters it: nothing is read from the cache."""
    settings = dict(decode_type="threshold", threshold=0.0)
    plain = run(tiny_llada, **settings)
    for cache in ("dual", "prefix"):
        assert same(plain, run(tiny_llada, **settings, cache_implementation=cache))


@pytest.mark.parametrize("cache", ["window", "dual", "prefix"])
def test_finished_rows_leave_the_forwards_and_the_cache(tiny_llada, cache, monkeypatch):
    held = []
    forget = CanvasCache.forget_all_but
    monkeypatch.setattr(
        CanvasCache, "forget_all_but", lambda self, *args: (forget(self, *args), held.append(len(self.held)))
    )
    prompts = torch.tensor([[1, 40, 50, 60], [1, 41, 51, 61], [MASK, 5, 6, 7]])
    settings = dict(decode_type="threshold", block_length=8, max_new_tokens=16, eos_token_id=[EOS, *range(200, 260)])
    with Shapes(tiny_llada) as shapes:
        out = run(tiny_llada, prompts, torch.ones_like(prompts), **settings, cache_implementation=cache, pad_token_id=0)
    forwards = sorted(out.forwards.tolist())
    assert forwards[0] < forwards[-1]
    assert sum(rows for rows, *_ in shapes) == sum(forwards)
    assert held[-1] < 3 and held == sorted(held, reverse=True)


def test_a_far_lookahead_changes_nothing_and_a_near_one_shortens_the_forwards(tiny_llada):
    settings = dict(decode_type="conv", kernel_size=8, max_new_tokens=200, steps=40, eos_token_id=None)
    assert same(run(tiny_llada, **settings), run(tiny_llada, **settings, lookahead=200))
    with Shapes(tiny_llada) as shapes:
        run(tiny_llada, PROMPTS[:1], TEXT[:1], **settings, lookahead=20)
    ends = [keys for *_, keys in shapes]
    assert ends[0] == 2 + 64 and ends[-1] == 207  # 64 positions of the row's own text behind its padding, then more
    assert ends == sorted(ends) and set(ends) == {66, 130, 194, 207}


def test_what_is_out_of_sight_is_not_computed_in_a_window(tiny_llada):
    """The margin stops at what is in sight: positions behind it were never computed, which is no change."""
    settings = dict(decode_type="llada", block_length=16, steps=160, max_new_tokens=160, eos_token_id=None)
    prompt = PROMPTS[1:, -3:]
    cache = dict(cache_implementation="window", cache_refresh_interval=100, cache_margin=8)
    with Shapes(tiny_llada) as shapes:
        run(tiny_llada, prompt, torch.ones_like(prompt), **settings, **cache, lookahead=45)
    assert shapes[0] == (1, 64, 64) and shapes[1:4] == [(1, 32, 64)] * 3


def test_behind_the_lookahead_the_canvas_is_as_good_as_shorter(tiny_llada):
    """The first forward: the candidates of a short canvas."""
    settings = dict(decode_type="conv_threshold", kernel_size=8, eos_token_id=None, steps=None)
    prompt, ones = PROMPTS[1:, -3:], TEXT[1:, -3:]
    long = run(tiny_llada, prompt, ones, **settings, max_new_tokens=200, lookahead=20)
    short = run(tiny_llada, prompt, ones, **settings, max_new_tokens=61)
    assert torch.equal(long.history[:5, 0, :64], short.history[:5, 0])


@pytest.mark.parametrize("cache", [{}, dict(cache_implementation="window", cache_refresh_interval=5)])
@pytest.mark.parametrize("ends", [dict(lookahead=16), dict(eos_threshold=0.05)], ids=str)
def test_rows_that_see_differently_far_are_as_alone(tiny_llada, cache, ends):
    """A short prompt beside a long one: each sees to its own lookahead, or to where its own text was cut off."""
    prompts = [[1, 40, 50], [1, *range(30, 100)]]
    settings = dict(decode_type="conv_threshold", kernel_size=8, max_new_tokens=100, pad_token_id=PAD, **cache, **ends)
    settings["eos_token_id"] = None if "lookahead" in ends else [EOS, *range(240, 260)]
    ids = torch.tensor([[PAD] * 68 + prompts[0], prompts[1]])
    mask = torch.tensor([[0] * 68 + [1] * 3, [1] * 71])
    together = run(tiny_llada, ids, mask, **settings)
    for row, prompt in enumerate(prompts):
        alone_ids = torch.tensor([prompt])
        alone = run(tiny_llada, alone_ids, torch.ones_like(alone_ids), seed=row, **settings)
        start = 71 - len(prompt)
        assert torch.equal(alone.sequences[0], together.sequences[row, start:])
        assert torch.equal(alone.unmasked_at[0], together.unmasked_at[row, start:])
        assert alone.forwards[0] == together.forwards[row]


def test_shifted_logits_read_the_left_neighbour(make_llada):
    """As in models adapted from autoregressive ones: the position at the left is computed too."""
    model = make_llada()
    model.shift_logits = True
    for cache in ("window", "dual", "prefix"):
        refresh = dict(cache_refresh_interval=1) if cache == "window" else {}
        settings = dict(decode_type="threshold", threshold=0.0) if cache != "window" else dict(decode_type="conv")
        assert same(run(model, **settings), run(model, **settings, cache_implementation=cache, **refresh))
    out = run(model, decode_type="conv", cache_implementation="window", cache_refresh_interval=4)
    assert not (out.sequences == MASK).any()


def flash_like(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Transformers' rules for flash attention: a mask [B, keys], of whose last columns the queries have theirs."""
    rows, heads, queries, _size = query.shape
    key, value = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (key, value))
    out = torch.zeros_like(query)
    for row in range(rows):
        keys = torch.ones(key.shape[2], dtype=torch.bool) if attention_mask is None else attention_mask[row].bool()
        asked = keys[-queries:] if queries < key.shape[2] else keys
        k, v = key[row : row + 1, :, keys], value[row : row + 1, :, keys]
        out[row, :, asked] = torch.nn.functional.scaled_dot_product_attention(
            query[row : row + 1, :, asked], k, v, scale=scaling
        )[0]
    return out.transpose(1, 2), None


def test_flash_attention_takes_the_same_masks(tiny_llada):
    """Without a GPU: an attention that treats masks as Transformers' flash attention does."""
    AttentionInterface.register("varlen", flash_like)
    AttentionMaskInterface.register("varlen", flash_attention_mask)
    model = copy.deepcopy(tiny_llada)
    model.set_attn_implementation("varlen")
    for settings in (
        dict(decode_type="conv", cache_implementation="window", cache_refresh_interval=4),
        dict(decode_type="threshold", cache_implementation="dual"),
        dict(decode_type="threshold", cache_implementation="prefix", guidance_scale=1.5),
    ):
        assert same(run(tiny_llada, **settings), run(model, **settings))


@pytest.mark.parametrize("cache", ["window", "dual"])
def test_caches_in_bfloat16(tiny_llada, cache):
    model = copy.deepcopy(tiny_llada).bfloat16()
    out = run(model, decode_type="threshold", cache_implementation=cache)
    assert not (out.sequences == MASK).any()


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
@pytest.mark.parametrize("cache", ["window", "dual", "prefix"])
def test_on_a_gpu(make_llada, attention, cache):
    """Exact where nothing is kept, in the dtype that flash attention takes."""
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
    model = make_llada(d_model=128, n_heads=4, n_kv_heads=2, mlp_hidden_size=128).to("cuda", torch.bfloat16)
    model.set_attn_implementation(attention)
    ids, mask = PROMPTS.cuda(), TEXT.cuda()
    if cache == "window":
        exact = run(model, ids, mask, decode_type="conv", cache_implementation=cache, cache_refresh_interval=1)
        assert same(run(model, ids, mask, decode_type="conv"), exact)
    out = run(model, ids, mask, decode_type="threshold", cache_implementation=cache)
    assert not (out.sequences == MASK).any() and out.sequences.is_cuda
