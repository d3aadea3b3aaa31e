"""Checkpoints that are not what a class reads: named, not loaded with random numbers."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from conv_dlm import models
from conv_dlm.answering.loading import load_model
from tests.models.families import FIXTURES


def altered(folder, family, config=None, tensors=None):
    """A copy of a golden checkpoint with other keys in its config, and its tensors by other names."""
    shutil.copytree(FIXTURES / family, folder, dirs_exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (config or {})))
    if tensors is not None:
        renamed = {tensors(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("family", ["llada_tiny", "mdlm_tiny", "dream_tiny", "llada2_tiny", "sdar_moe_tiny"])
def test_missing_and_left_over_weights_are_named(tmp_path, family):
    folder = altered(tmp_path, family, tensors=lambda name: name.replace("norm", "scale"))
    with pytest.raises(ValueError, match=r"(?s)of another layout than .*norm.* missing, .*scale.* left over"):
        AutoModelForCausalLM.from_pretrained(folder)
    model, info = AutoModel.from_pretrained(folder, allow_missing_weights=True, output_loading_info=True)
    assert info["missing_keys"] and isinstance(model, torch.nn.Module)


def test_a_stored_head_is_used_in_spite_of_the_tie(tmp_path):
    """As published A2D checkpoints have it."""
    folder = altered(tmp_path, "a2d_qwen3_tiny")
    tensors = load_file(folder / "model.safetensors")
    head = torch.randn_like(tensors["model.embed_tokens.weight"])
    save_file(tensors | {"lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    model = AutoModel.from_pretrained(folder)
    assert torch.equal(model.lm_head.weight, head)
    assert torch.equal(model.model.embed_tokens.weight, tensors["model.embed_tokens.weight"])


def test_checkpoints_of_llada_s_layout_load_as_llada(tmp_path):
    """LLaDA-1.5, d3LLM_LLaDA, dParallel-LLaDA and JustGRPO: another training, the same config."""
    folder = altered(tmp_path, "llada_tiny", {"_name_or_path": "GSAI-ML/LLaDA-1.5"})
    assert type(AutoModel.from_pretrained(folder)) is models.LLaDAModelLM


def test_illada_is_refused_by_name(tmp_path):
    folder = altered(tmp_path, "llada_tiny", {"architectures": ["ILLaDAForCausalLM"]})
    with pytest.raises(ValueError, match="iLLaDA is not supported: its layout is not LLaDA's"):
        AutoConfig.from_pretrained(folder)


def test_stable_diffcoder_is_recognised(tmp_path, tiny_tokenizer):
    folder = altered(
        tmp_path, "a2d_llama_tiny",
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"],
         "auto_map": {"AutoModelForCausalLM": "modeling_seed_diffcoder.SeedDiffcoderForCausalLM"}},
    )  # fmt: skip
    tiny_tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"Stable-DiffCoder.*A2DLlamaLMHeadModel"):
        load_model(str(folder), device="cpu")
    model = models.A2DLlamaLMHeadModel.from_pretrained(
        folder, attention_pattern="block_causal", block_length=4, mask_token_id=140
    )
    cases = load_file(FIXTURES / "a2d_llama_tiny" / "cases.safetensors")
    logits = model(cases["block_nopad_input_ids"]).logits
    torch.testing.assert_close(logits, cases["block_nopad_logits"], rtol=0, atol=5e-5)
