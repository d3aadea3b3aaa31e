"""Models made of Transformers' classes against the originals: files, logits, caches, padding, losses."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from conv_dlm import models
from conv_dlm.generation import DiffusionGenerationMixin
from conv_dlm.models.cache_argument import CACHE_FIELD
from conv_dlm.utils.checkpointing import checkpoint_activations
from tests.models.families import BLOCK_LENGTHS, FAMILIES, FIXTURES, SHIFTED, load

each_family = pytest.mark.parametrize("family", FAMILIES)
each_attention = pytest.mark.parametrize("attention", ["sdpa", "eager"])


def assert_close(logits: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)


@each_family
def test_published_files_load_through_every_door_without_remote_code(family):
    expected, _ = FAMILIES[family]
    for auto in (AutoModel, AutoModelForMaskedLM, AutoModelForCausalLM):
        model, info = auto.from_pretrained(FIXTURES / family, output_loading_info=True)
        assert type(model) is expected
        assert not any(info.values())
        assert isinstance(model, DiffusionGenerationMixin)
    config = AutoConfig.from_pretrained(FIXTURES / family, trust_remote_code=True)
    assert type(config) is expected.config_class
    assert model.config._attn_implementation == "sdpa"
    assert config.attention_pattern == ("block_causal" if family in BLOCK_LENGTHS else "full")
    assert getattr(model(torch.arange(5, 9)[None]), CACHE_FIELD) is None


@each_family
def test_saving_writes_the_published_files(family, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(FIXTURES / family)
    model.save_pretrained(tmp_path)
    tensors, saved = (load_file(folder / "model.safetensors") for folder in (FIXTURES / family, tmp_path))
    assert saved.keys() == tensors.keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in tensors.items())

    original, config = (json.loads((folder / "config.json").read_text()) for folder in (FIXTURES / family, tmp_path))
    # The version and name of the dtype are Transformers', `auto_map` points to code that isn't written; the others have
    # no effect in the original code.
    for key in ("transformers_version", "torch_dtype", "dtype", "auto_map", "attn_implementation", "use_cache"):
        original.pop(key, None)
    for key in ("norm_topk_prob", "sliding_window"):
        if family.startswith("llada"):
            original.pop(key, None)
    assert {key: config.get(key) for key in original} == original
    assert not {"auto_map", "rope_parameters", "is_causal"} & config.keys()
    ids = torch.arange(5, 17)[None]
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(ids).logits, model(ids).logits)


@pytest.mark.parametrize("family", ["a2d_qwen3_tiny", "a2d_qwen2_tiny", "a2d_llama_tiny"])
def test_a2d_is_block_causal_where_one_says_so(family, tmp_path):
    model, ids = load(family, attention_pattern="block_causal", block_length=4), torch.arange(5, 17)[None]
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert not torch.equal(load(family)(ids).logits, model(ids).logits)


@each_family
@each_attention
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_do_not_depend_on_padding(family, attention, side):
    model, ids = load(family, attn_implementation=attention), torch.arange(3, 45).reshape(2, 21)
    rows = [ids[0], ids[1, :13]]
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=7, padding_side=side)
    ones = [torch.ones_like(row) for row in rows]
    mask = torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_side=side)
    for positions in (None, (mask.cumsum(1) - 1).clamp(min=0)):
        logits = model(batch, attention_mask=mask, position_ids=positions).logits
        for row, own, real in zip(rows, logits, mask.bool(), strict=True):
            assert_close(own[real], model(row[None]).logits[0], 1e-4)


@each_family
@torch.no_grad()  # flex attention has no gradient on a CPU
def test_flex_attention_agrees(family):
    model, ids = load(family), torch.arange(3, 45).reshape(2, 21)
    mask = torch.ones_like(ids)
    mask[1, :6] = 0
    expected = [model(ids).logits, model(ids, attention_mask=mask).logits[mask.bool()]]
    model.set_attn_implementation("flex_attention")
    with torch.compiler.set_stance("force_eager"):
        logits = [model(ids).logits, model(ids, attention_mask=mask).logits[mask.bool()]]
    for ours, theirs in zip(logits, expected, strict=True):
        assert_close(ours, theirs, 1e-4)


@each_family
def test_positions_to_keep_and_the_loss_of_labels(family):
    model, ids = load(family), torch.arange(3, 45).reshape(2, 21)
    logits = model(ids).logits
    keep = torch.tensor([[4, 9, 2], [0, 20, 7]])
    assert_close(model(ids, logits_to_keep=keep).logits, torch.take_along_dim(logits, keep[..., None], 1), 1e-5)
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[0, 3] = where[1, 5:8] = True
    assert_close(model(ids, logits_to_keep=where).logits, logits[where], 1e-5)

    labels = torch.where(where, ids, -100)
    predicting = where.roll(-1, 1) if family in SHIFTED else where
    loss = F.cross_entropy(logits[predicting], ids[where])
    torch.testing.assert_close(model(ids, labels=labels).loss, loss)
    torch.testing.assert_close(model(ids, labels=labels, logits_to_keep=predicting).loss, loss)


@each_family
def test_the_gradient_reaches_every_weight_with_checkpointing_too(family):
    model, ids = load(family).train(), torch.arange(3, 108).reshape(5, 21)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters()}

    plain = gradients()
    assert all(gradient.any() for gradient in plain.values())
    checkpoint_activations(model)
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, plain[name], msg=name, rtol=1e-4, atol=1e-5)


@each_family
def test_flash_attention_is_refused(family):
    with pytest.raises(ValueError, match="does not support Flash Attention"):
        load(family, attn_implementation="flash_attention_2")


def test_patterns_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match="`attention_pattern='blocks'` does not exist"):
        models.A2DQwen3LMHeadModel.config_class(attention_pattern="blocks")
    with pytest.raises(ValueError, match="needs a positive `block_length`"):
        models.A2DQwen3LMHeadModel.config_class(attention_pattern="block_causal")
    with pytest.raises(ValueError, match="`clip_qkv=8` is not supported"):
        load("llada_moe_tiny", clip_qkv=8)


def test_mask_ids_of_published_checkpoints_where_their_configs_have_none():
    for model, mask in ((models.SDARMoeForCausalLM, 151669), (models.Fast_dLLM_QwenForCausalLM, 151665),
                        (models.LLaDA2MoeModelLM, 156895), (models.LLaDAMoEModelLM, 156895),
                        (models.A2DQwen3LMHeadModel, 151669), (models.A2DQwen2LMHeadModel, None)):  # fmt: skip
        assert model.config_class(vocab_size=157184).mask_token_id == mask
        assert model.config_class(vocab_size=1000).mask_token_id is None
        assert model.config_class(vocab_size=1000, mask_token_id=7).mask_token_id == 7
