"""The numbers and files of the original implementations."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModel


@pytest.mark.parametrize(("attention", "tolerance"), [("sdpa", 5e-6), ("eager", 1e-5)])
def test_llada_gives_the_golden_logits(golden_of, attention, tolerance):
    """With SDPA exactly, on the kind of CPU that the fixture is from; another rounds its products otherwise."""
    golden = golden_of("llada")
    model, cases = golden.load(attn_implementation=attention), golden.cases
    logits = model(cases["input_ids"]).logits
    padded = model(cases["padded_input_ids"], attention_mask=cases["padded_attention_mask"]).logits
    valid = cases["padded_attention_mask"].bool()
    assert (logits - cases["logits"]).abs().max() <= tolerance
    assert (padded - cases["padded_logits"])[valid].abs().max() <= tolerance


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_mdlm_gives_the_golden_logits_at_any_timestep(golden_of, attention):
    golden = golden_of("mdlm")
    model, cases = golden.load(attn_implementation=attention), golden.cases
    for timesteps in (None, cases["timesteps"], torch.tensor([0.1, 1.0, 9.0])):
        logits = model(cases["input_ids"], timesteps=timesteps).logits
        torch.testing.assert_close(logits, cases["logits"], rtol=0, atol=1e-5)


def plain_llada(tensors, config, ids):
    """LLaDA's forward written out in torch, from the names and facts of the golden checkpoint's page."""
    dtype, head_dim = tensors["model.transformer.wte.weight"].dtype, config.d_model // config.n_heads
    frequencies = 1.0 / (config.rope_theta ** (torch.arange(0, head_dim, 2).float() / head_dim))
    angles = torch.outer(torch.arange(ids.shape[1]).float(), frequencies).repeat(1, 2)

    def norm(x, weight):
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps)).to(dtype)

    def heads(x, turn):
        x = x.view(*ids.shape, -1, head_dim).transpose(1, 2)
        if turn:
            half = torch.cat((-x[..., head_dim // 2 :], x[..., : head_dim // 2]), -1).float()
            x = (x.float() * angles.cos() + half * angles.sin()).to(dtype)
        return x.repeat_interleave(config.n_heads // x.shape[1], dim=1)

    x = F.embedding(ids, tensors["model.transformer.wte.weight"])
    for i in range(config.n_layers):
        w = {k.split(".")[4]: v for k, v in tensors.items() if k.startswith(f"model.transformer.blocks.{i}.")}
        h = norm(x, w["attn_norm"])
        q, k, v = heads(h @ w["q_proj"].T, True), heads(h @ w["k_proj"].T, True), heads(h @ w["v_proj"].T, False)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + h @ w["attn_out"].T
        h = norm(x, w["ff_norm"])
        x = x + (F.silu(h @ w["ff_proj"].T) * (h @ w["up_proj"].T)) @ w["ff_out"].T
    x = norm(x, tensors["model.transformer.ln_f.weight"])
    head = "wte" if config.weight_tying else "ff_out"
    return x @ tensors[f"model.transformer.{head}.weight"].T


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "variant",
    [{}, {"n_kv_heads": 2}, {"n_kv_heads": None, "multi_query_attention": True}, {"weight_tying": True}],
    ids=["plain", "grouped", "multi-query", "tied"],
)
def test_llada_variants_agree_with_a_plain_forward_and_reload_equal(make_llada, tmp_path, variant, dtype):
    model = make_llada(rope_theta=100000.0, **variant).to(dtype)
    model.save_pretrained(tmp_path)
    tensors, ids = load_file(tmp_path / "model.safetensors"), torch.randint(260, (2, 40))
    logits = model(ids).logits
    # In bfloat16 equal to the last bit of nearly all logits: with rotary embedding in bfloat16 most would differ.
    difference = (logits.float() - plain_llada(tensors, model.config, ids).float()).abs()
    assert difference.max() < (1e-4 if dtype == torch.float32 else 0.05 * logits.std())
    assert (difference == 0).float().mean() > (0 if dtype == torch.float32 else 0.9)
    assert ("model.transformer.ff_out.weight" in tensors) == (not model.config.weight_tying)
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(ids).logits, logits)


def test_saving_writes_the_original_file_and_config(golden, model, tmp_path):
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == golden.tensors.keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in golden.tensors.items())

    original = json.loads((golden.folder / "config.json").read_text())
    config = json.loads((tmp_path / "config.json").read_text())
    # Transformers writes `torch_dtype` as `dtype`; `auto_map` points to code, which is not written.
    for key in ("transformers_version", "torch_dtype", "auto_map"):
        original.pop(key, None)
    assert "auto_map" not in config
    assert {key: config.get(key) for key in original} == original
    assert not {"hidden_size", "num_hidden_layers", "rope_parameters"} & config.keys()
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(golden.ids).logits, model(golden.ids).logits)


def test_config_alone_round_trips(golden, model, tmp_path):
    config = type(model.config).from_pretrained(golden.folder)
    config.save_pretrained(tmp_path)
    assert type(config).from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_casting_a_model_equals_loading_it_in_that_dtype(golden, model, dtype):
    cast = model.to(dtype)
    rotary = [module for name, module in cast.named_modules() if name.endswith("rotary_emb")]
    assert [module.inv_freq.dtype for module in rotary] == [torch.float32]
    assert torch.equal(cast(golden.ids).logits, golden.load(dtype=dtype)(golden.ids).logits)


def test_mdlm_loads_without_the_stored_frequencies(golden_of, tmp_path):
    golden = golden_of("mdlm")
    model = golden.load()
    state = {k: v for k, v in golden.tensors.items() if "inv_freq" not in k}
    loaded = type(model).from_pretrained(None, config=model.config, state_dict=state)
    assert torch.equal(loaded(golden.ids).logits, model(golden.ids).logits)
    loaded.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")["backbone.rotary_emb.inv_freq"]
    assert torch.equal(stored, golden.tensors["backbone.rotary_emb.inv_freq"])
