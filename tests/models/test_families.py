"""Models made of Transformers' classes against the originals: files, logits, caches, padding, losses."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, DynamicCache

from conv_dlm import models
from conv_dlm.generation import DiffusionGenerationMixin
from conv_dlm.models.cache_argument import CACHE_FIELD
from tests.models.families import BLOCK_LENGTHS, FAMILIES, FIXTURES, SHIFTED, load

each_family = pytest.mark.parametrize("family", FAMILIES)
each_block_causal = pytest.mark.parametrize("family", BLOCK_LENGTHS)
each_attention = pytest.mark.parametrize("attention", ["sdpa", "eager"])


def cases_of(family: str) -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / family / "cases.safetensors")


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


@each_family
@each_attention
def test_logits_are_the_originals(family, attention):
    """What is seen in a case is passed as a boolean mask, which Transformers' eager attention gets wrong."""
    model, cases, tolerance = load(family, attn_implementation=attention), cases_of(family), FAMILIES[family][1]
    if "logits" in cases:
        assert_close(model(cases["input_ids"]).logits, cases["logits"], tolerance)
    for side in ("left", "right"):
        if f"{side}_input_ids" in cases:
            mask = cases[f"{side}_attention_mask"]
            for positions in (None, cases.get(f"{side}_position_ids")):
                logits = model(cases[f"{side}_input_ids"], attention_mask=mask, position_ids=positions).logits
                assert_close(logits[mask.bool()], cases[f"{side}_logits"][mask.bool()], tolerance)
    for case in ("block", "block_nopad", "otherblock", "ragged", "train"):
        if f"{case}_logits" in cases:
            seen = cases[f"{case}_attended"]
            seen = seen[None] if seen.dim() == 2 else seen
            positions = cases.get(f"{case}_position_ids")
            logits = model(cases[f"{case}_input_ids"], attention_mask=seen[:, None], position_ids=positions).logits
            real = seen.any(-1).expand(logits.shape[:2])
            assert_close(logits[real], cases[f"{case}_logits"][real], tolerance)


@pytest.mark.parametrize(
    ("family", "case"), [("dream_tiny", ""), ("a2d_qwen3_tiny", ""), ("a2d_qwen2_tiny", ""), ("a2d_llama_tiny", ""),
                         ("llada_moe_tiny", ""), ("llada_moe_general_tiny", ""), ("fast_dllm_v2_tiny", "block_")],
)  # fmt: skip
def test_logits_in_bfloat16(family, case):
    """Much nearer to the original in bfloat16 than that is to float32; kernels of CPUs differ."""
    cases = cases_of(family)
    logits = load(family, dtype=torch.bfloat16, experts_implementation="eager")(cases[f"{case}input_ids"]).logits
    original = cases[f"{case}logits_bf16"].float()
    rounding = (original - cases[f"{case}logits"]).abs().mean()
    assert (logits.float() - original).abs().mean() < 0.3 * rounding


@each_block_causal
@each_attention
def test_block_causal_models_make_their_mask(family, attention):
    model, cases, tolerance = load(family, attn_implementation=attention), cases_of(family), FAMILIES[family][1]
    assert (model.config.attention_pattern, model.config.block_length) == ("block_causal", BLOCK_LENGTHS[family])
    for case in ("block", "ragged"):
        if f"{case}_input_ids" in cases:
            assert_close(model(cases[f"{case}_input_ids"]).logits, cases[f"{case}_logits"], tolerance)
    if "otherblock_logits" in cases:
        other = load(family, attn_implementation=attention, block_length=8)
        assert_close(other(cases["otherblock_input_ids"]).logits, cases["otherblock_logits"], tolerance)


@pytest.mark.parametrize("family", ["a2d_qwen3_tiny", "a2d_qwen2_tiny", "a2d_llama_tiny"])
def test_a2d_is_block_causal_where_one_says_so(family, tmp_path):
    cases = cases_of(family)
    model = load(family, attention_pattern="block_causal", block_length=4)
    assert_close(model(cases["block_nopad_input_ids"]).logits, cases["block_nopad_logits"], 5e-5)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(again(cases["input_ids"]).logits, model(cases["input_ids"]).logits)


@each_block_causal
def test_the_last_block_over_a_cached_prefix(family):
    model, cases, tolerance = load(family), cases_of(family), FAMILIES[family][1]
    ids, expected = cases["block_input_ids"], cases["block_cached_logits"]
    prefix = ids.shape[1] - expected.shape[1]
    cache = DynamicCache(config=model.config)
    model(ids[:, :prefix], past_key_values=cache)
    assert cache.get_seq_length() == prefix
    assert_close(model(ids[:, prefix:], cache=cache).logits, expected, tolerance)
    assert getattr(model(ids), CACHE_FIELD) is None


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
    model.gradient_checkpointing_enable()
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
