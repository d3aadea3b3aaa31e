"""The forward of both models: positions, padding, caches, backends, losses."""

import copy

import pytest
import torch
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.integrations import flash_attention

from conv_dlm.models.cache_argument import CACHE_FIELD
from conv_dlm.utils.checkpointing import checkpoint_activations

BACKENDS = ("sdpa", "eager", "flash_attention_2")
close = pytest.approx


@pytest.fixture
def with_backend(monkeypatch):
    """Sets an attention backend. Flash attention's kernel is replaced by what it is documented to compute."""

    def kernel(query, key, value, attention_mask, *, query_length, is_causal, softmax_scale, position_ids=None, **_):
        assert not is_causal
        assert query_length == query.shape[1]
        assert position_ids is None, "flash attention reads gaps in position_ids as borders of packed sequences"
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None]
        return F.scaled_dot_product_attention(query, key, value, mask, scale=softmax_scale).transpose(1, 2)

    monkeypatch.setattr(flash_attention, "_flash_attention_forward", kernel)

    def set_backend(model, backend):
        model.config._attn_implementation = backend  # past the check that flash-attn is installed
        return model

    return set_backend


def assert_same(logits, expected, tolerance=2e-5):
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_changes_nothing(model, batch_of_lengths, with_backend, backend, side):
    rows, ids, mask = batch_of_lengths(side)
    with_backend(model, backend)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    for position_ids in (None, positions):
        logits = model(ids, attention_mask=mask, position_ids=position_ids).logits
        for row, own, real in zip(rows, logits, mask.bool(), strict=True):
            assert_same(own[real], model(row[None]).logits[0])


def test_attention_goes_both_ways_without_a_mask(golden, model, with_backend):
    for backend in BACKENDS:
        with_backend(model, backend)
        changed = golden.ids.clone()
        changed[:, -1] = (changed[:, -1] + 1) % 100
        difference = (model(changed).logits - model(golden.ids).logits).abs().amax(-1)
        assert (difference[:, 0] > 1e-4).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_kept_positions_equal_the_full_logits(golden, model, with_backend, backend):
    ids, full = golden.ids, with_backend(model, backend)(golden.ids).logits
    row = torch.arange(3)[:, None]
    same, own, any_ = torch.tensor([0, 7, 3]), torch.tensor([[1, 2], [9, 0], [4, 4]]), torch.rand(ids.shape) < 0.3
    assert_same(model(ids, logits_to_keep=2).logits, full[:, -2:])
    assert_same(model(ids, logits_to_keep=same).logits, full[:, same])
    assert_same(model(ids, logits_to_keep=own).logits, full[row, own])
    assert_same(model(ids, logits_to_keep=any_).logits, full[any_])


@pytest.mark.parametrize("keep", [0, torch.tensor([[1, 2], [9, 0], [4, 5]])], ids=["all", "positions"])
def test_loss_is_unshifted_and_over_targets(golden, model, keep):
    ids, labels = golden.ids, golden.ids.clone()
    labels[:, ::3] = -100
    output = model(ids, labels=labels, logits_to_keep=keep)
    kept = labels if isinstance(keep, int) else labels.gather(1, keep)
    expected = F.cross_entropy(output.logits.flatten(0, 1), kept.flatten(), ignore_index=-100)
    assert output.loss.item() == close(expected.item())
    shared = model(ids, labels=labels, logits_to_keep=keep, num_items_in_batch=torch.tensor(100)).loss
    assert shared.item() == close(expected.item() * (kept != -100).sum().item() / 100)


def test_only_differences_of_positions_count(golden, model):
    ids, logits = golden.ids, model(golden.ids).logits
    positions = torch.arange(ids.shape[1])[None]
    assert_same(model(ids, position_ids=positions + 11).logits, logits)
    order = torch.randperm(ids.shape[1])
    assert_same(model(ids[:, order], position_ids=positions[:, order]).logits, logits[:, order])
    assert (model(ids, position_ids=positions * 2).logits - logits).abs().max() > 0.01


def test_embeddings_stand_for_ids(golden, model):
    embeddings = model.get_input_embeddings()(golden.ids)
    assert torch.equal(model(inputs_embeds=embeddings).logits, model(golden.ids).logits)
    for both in ({}, {"input_ids": golden.ids, "inputs_embeds": embeddings}):
        with pytest.raises(ValueError, match="exactly one"):
            model(**both)


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_cached_prefix_equals_a_block_mask(golden, model, with_backend, backend):
    """A prefix that sees only itself, then a block that sees everything: as in block-wise denoising."""
    with_backend(model, backend)
    ids, prefix = golden.ids, 12
    length = ids.shape[1]
    blocked = (torch.arange(length)[:, None] < prefix) & (torch.arange(length) >= prefix)  # [queries, keys]
    mask = torch.zeros(1, 1, length, length).masked_fill(blocked, torch.finfo(torch.float32).min)
    expected = model(ids, attention_mask=mask).logits
    cache = model(ids[:, :prefix], use_cache=True)[CACHE_FIELD]
    assert_same(model(ids[:, prefix:], cache=cache).logits, expected[:, prefix:])
    assert cache.get_seq_length() == length

    own = DynamicCache()
    model(ids[:, :prefix], past_key_values=own)
    positions = torch.arange(prefix, length)[None]
    all_ones = torch.ones_like(ids)
    logits = model(ids[:, prefix:], past_key_values=own, position_ids=positions, attention_mask=all_ones).logits
    assert_same(logits, expected[:, prefix:])
    assert getattr(model(ids), CACHE_FIELD) is None


def test_a_cache_has_one_of_two_names(model):
    ids = torch.arange(4, 8)[None]
    one, other = DynamicCache(), DynamicCache()
    model(ids, cache=one)
    model(ids, past_key_values=other)
    assert torch.equal(model(ids, cache=one).logits, model(ids, past_key_values=other).logits)
    assert one.get_seq_length() == other.get_seq_length() == 8
    with pytest.raises(ValueError, match="two names of one argument"):
        model(ids, cache=one, past_key_values=other)


def test_no_cache_is_written_twice_under_gradient_checkpointing(model):
    """A block runs again for its gradient, and would append to the cache once more."""
    ids, cache = torch.arange(4, 8)[None], DynamicCache()
    model = copy.deepcopy(model).train()
    checkpoint_activations(model)
    model(ids, labels=ids, cache=cache).loss.backward()
    assert cache.get_seq_length() == 0
    with torch.no_grad():  # nothing runs again
        model(ids, cache=cache)
    assert cache.get_seq_length() == 4


def test_hidden_states_and_attentions(golden, model):
    model.set_attn_implementation("eager")
    output = model(golden.ids, output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == model.config.num_hidden_layers + 1
    heads, length = model.config.num_attention_heads, golden.ids.shape[1]
    assert [tuple(weights.shape) for weights in output.attentions] == [(3, heads, length, length)] * 2
    assert_same(output.attentions[0].sum(-1), torch.ones(3, heads, length))
    assert isinstance(model(golden.ids, return_dict=False), tuple)


def test_checkpointing_gives_the_same_gradients(golden, model):
    def gradients():
        model.zero_grad()
        model(golden.ids, labels=golden.ids).loss.backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    plain, calls = gradients(), []
    checkpoint_activations(model)
    model.train()  # checkpointing acts in training only; dropout off, to compare
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    block = next(m for m in model.modules() if type(m).__name__ in model._no_split_modules)
    next(m for m in block.modules() if isinstance(m, torch.nn.Linear)).register_forward_hook(lambda *_: calls.append(1))
    checkpointed = gradients()
    assert len(calls) == 2  # once, and once more in the backward pass
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)
        assert gradient.abs().max() > 0, name


def test_no_embedding_is_frozen(golden_of):
    """LLaDA pads with EOS: a `padding_idx` would stop learning when to end."""
    golden = golden_of("llada")
    model = golden.load()
    model(golden.ids, labels=golden.ids).loss.backward()
    assert (golden.ids == model.config.eos_token_id).any()
    assert model.get_input_embeddings().weight.grad[model.config.eos_token_id].abs().max() > 0


@pytest.mark.parametrize("size", [140, 400])
def test_resized_vocabulary_survives_saving(golden, model, tmp_path, size):
    ids = golden.ids % 128
    model.resize_token_embeddings(size, mean_resizing=False)
    logits = model(ids).logits
    model.save_pretrained(tmp_path)
    assert logits.shape[-1] == size
    assert torch.equal(type(model).from_pretrained(tmp_path)(ids).logits, logits)


def test_compiles_without_graph_breaks(golden, model):
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    mask = torch.ones_like(golden.ids)
    mask[0, :3] = 0
    keep = golden.ids % golden.ids.shape[1]
    with torch.no_grad():
        for kwargs in ({}, {"attention_mask": mask}, {"logits_to_keep": keep[:, :5]}):
            assert_same(compiled(golden.ids, **kwargs).logits, model(golden.ids, **kwargs).logits)
