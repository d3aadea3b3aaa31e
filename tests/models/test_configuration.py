"""What configs accept, and the published sizes."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModel
from transformers.core_model_loading import revert_weight_conversion

from conv_dlm.models import MDLM, LLaDAConfig, LLaDAModelLM, MDLMConfig

TINY = dict(d_model=32, n_layers=1, n_heads=4, mlp_hidden_size=48, vocab_size=64)
# LLaDA-8B, as published
LLADA_8B = dict(
    activation_type="silu", block_type="llama", d_model=4096, embedding_size=126464, eos_token_id=126081,
    include_bias=False, include_qkv_bias=False, layer_norm_type="rms", mask_token_id=126336, max_sequence_length=4096,
    mlp_hidden_size=12288, mlp_ratio=4, n_heads=32, n_kv_heads=32, n_layers=32, pad_token_id=126081,
    rms_norm_eps=1e-5, rope=True, rope_theta=500000.0, vocab_size=126464, weight_tying=False,
)  # fmt: skip


def test_llada_8b_has_the_published_size_and_weight_names():
    with torch.device("meta"):
        model = LLaDAModelLM(LLaDAConfig(**LLADA_8B))
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_015_581_184  # 8.02 B
    outside = ("wte.weight", "ln_f.weight", "ff_out.weight")
    inside = ("attn_norm", "attn_out", "ff_norm", "ff_out", "ff_proj", "k_proj", "q_proj", "up_proj", "v_proj")
    published = {f"model.transformer.{name}" for name in outside}
    published |= {f"model.transformer.blocks.{i}.{name}.weight" for i in range(32) for name in inside}
    assert len(published) == 291
    assert revert_weight_conversion(model, model.state_dict()).keys() == published


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({}, "default"), ({"rope_type": "default"}, "default"), ({"type": "default"}, "default"),
        ({"type": "linear", "factor": 2.0}, "linear"), ({"rope_type": "linear", "factor": 2.0}, "linear"),
    ],
)  # fmt: skip
def test_how_files_say_the_scaling_of_rope(said, kind):
    """Older ones call its type `type`; an empty one, or `default`, is none."""
    model = LLaDAModelLM(LLaDAConfig(**TINY, rope_scaling=said))
    assert model.config.rope_parameters["rope_type"] == kind
    plain = LLaDAModelLM(LLaDAConfig(**TINY)).model.rotary_emb.inv_freq
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, plain / said.get("factor", 1.0))


@pytest.mark.parametrize("make", [lambda: LLaDAModelLM(LLaDAConfig(**TINY)), lambda: MDLM(MDLMConfig(vocab_size=64))])
def test_the_attention_of_a_training_is_not_asked_for(tmp_path, make):
    """Some files say it (`flash_attention_2`, which isn't installed); what is used is the caller's choice."""
    with torch.device("meta"):
        config = make().config
    config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attn_implementation": "flash_attention_2"}))
    read = AutoConfig.from_pretrained(tmp_path)
    assert read._attn_implementation != "flash_attention_2"
    with torch.device("meta"):
        assert AutoModel.from_config(read).config._attn_implementation == "sdpa"


def test_mdlm_owt_has_the_published_size():
    with torch.device("meta"):
        model = MDLM(MDLMConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 169_627_218


def test_llada_defaults_are_those_of_8b():
    default, published = LLaDAConfig().to_dict(), LLaDAConfig(**LLADA_8B).to_dict()
    ids = {key for key in published if key.endswith("_token_id")}
    assert {k: v for k, v in default.items() if k not in ids} == {k: v for k, v in published.items() if k not in ids}
    assert all(default[key] is None for key in ids)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alibi", True), ("rope", False), ("rope_full_precision", False), ("layer_norm_type", "default"),
        ("layer_norm_with_affine", False), ("attention_layer_norm", True), ("input_emb_norm", True),
        ("include_bias", True), ("include_qkv_bias", True), ("bias_for_layer_norm", True), ("scale_logits", True),
        ("block_type", "sequential"), ("block_group_size", 2), ("residual_dropout", 0.1),
        ("embedding_dropout", 0.1), ("activation_type", "swiglu"), ("n_kv_heads", 3), ("n_heads", 5),
        ("multi_query_attention", False), ("rope_scaling", {"rope_type": "ntk", "factor": 2.0}),
    ],
)  # fmt: skip
def test_llada_refuses_what_it_does_not_compute(key, value):
    with pytest.raises(ValueError, match=key):
        LLaDAConfig(**TINY | {"n_kv_heads": 2} | {key: value})


def test_keys_set_later_are_checked_by_the_model():
    llada, mdlm = LLaDAConfig(**TINY), MDLMConfig(hidden_dim=32, n_heads=4)
    llada.alibi, mdlm.n_heads = True, 5
    with pytest.raises(ValueError, match="alibi"):
        LLaDAModelLM(llada)
    with pytest.raises(ValueError, match="n_heads"):
        MDLM(mdlm)


@pytest.mark.parametrize("off", [None, False])
def test_llada_accepts_absent_biases(off):
    LLaDAConfig(**TINY, include_qkv_bias=off, bias_for_layer_norm=off)


@pytest.mark.parametrize(
    ("given", "kv_heads"), [({}, 4), ({"n_kv_heads": 2}, 2), ({"n_kv_heads": None, "multi_query_attention": True}, 1)]
)
def test_llada_derives_what_is_left_unset(given, kv_heads):
    config = LLaDAConfig(**TINY | {"mlp_hidden_size": None} | given)
    assert (config.num_key_value_heads, config.intermediate_size, config.embedding_size) == (kv_heads, 128, 64)


def test_rope_theta_has_one_home(golden_of):
    config = AutoConfig.from_pretrained(golden_of("llada").folder, rope_theta=1234.0)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 1234.0}
    assert LLaDAModelLM(config).model.rotary_emb.theta == 1234.0


def test_mdlm_knows_its_mask_and_guesses_nothing_else():
    config = MDLMConfig(vocab_size=130)
    assert config.mask_token_id == 129
    assert config.pad_token_id is config.bos_token_id is config.eos_token_id is None
    assert MDLMConfig(vocab_size=130, mask_token_id=5).mask_token_id == 5


@pytest.mark.parametrize("config", [LLaDAConfig(**TINY), MDLMConfig()], ids=["llada", "mdlm"])
def test_auto_map_is_there_for_trl_but_not_saved(config):
    assert config.auto_map == {}
    assert "auto_map" not in config.to_dict()
