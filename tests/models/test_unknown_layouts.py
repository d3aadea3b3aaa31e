"""Checkpoints that are not what a class reads: named, not loaded with random numbers."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from conv_dlm import models
from conv_dlm.answering.loading import load_config, load_model
from tests.models.families import FAMILIES, FIXTURES


def altered(folder, family, config=None, tensors=None):
    """A copy of a golden checkpoint with other keys in its config, and its tensors by other names."""
    shutil.copytree(FIXTURES / family, folder, dirs_exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (config or {})))
    if tensors is not None:
        renamed = {tensors(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("family", ["llada_tiny", "mdlm_tiny", *FAMILIES])
def test_missing_and_left_over_weights_are_named(tmp_path, family):
    folder = altered(tmp_path, family, tensors=lambda name: name.replace("norm", "scale"))
    with pytest.raises(ValueError, match=r"(?s)of another layout than .*norm.* missing, .*scale.* left over"):
        AutoModelForCausalLM.from_pretrained(folder)
    model, info = AutoModel.from_pretrained(folder, allow_missing_weights=True, output_loading_info=True)
    assert info["missing_keys"] and isinstance(model, torch.nn.Module)


@pytest.mark.parametrize("family", ["llada_tiny", "mdlm_tiny", *FAMILIES])
def test_weights_that_nobody_would_read_are_named(tmp_path, family):
    """A norm that this class doesn't compute, in a layer; a value head beside the model is nobody's business."""
    folder = altered(tmp_path, family)
    tensors = load_file(folder / "model.safetensors")
    norm = next(name for name in tensors if re.search(r"norm\d?\.weight", name))
    more = norm.replace("norm", "further_norm")
    save_file(tensors | {more: tensors[norm].clone()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"none missing, 1 weight \(.*further_norm.*\) left over"):
        AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(AutoModel.from_pretrained(folder, allow_missing_weights=True), torch.nn.Module)
    save_file(tensors | {"v_head.weight": tensors[norm].clone()}, folder / "model.safetensors", {"format": "pt"})
    assert isinstance(AutoModel.from_pretrained(folder), torch.nn.Module)


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


ILLADA = {"architectures": ["ILLaDAForCausalLM"], "mask_token_id": None, "auto_map": {"AutoModel": "x.ILLaDAModel"}}


@pytest.mark.parametrize("model_type", ["llada", "illada", "llama", "something"])
def test_illada_whose_config_tells_enough_is_loaded(tmp_path, tiny_tokenizer, model_type):
    """Whatever model type its files say, by `load_model`; by an Auto class where that leads here."""
    told = ILLADA | {"model_type": model_type, "unheard_of": None}
    folder = altered(tmp_path, "a2d_llama_tiny", told)
    tiny_tokenizer.save_pretrained(folder)
    with pytest.warns(UserWarning, match="The mask is 5 for the model and 3"):
        model, _ = load_model(str(folder), device="cpu")
    assert load_config(str(folder)).mask_token_id == model.config.mask_token_id == 5
    cases = load_file(FIXTURES / "a2d_llama_tiny" / "cases.safetensors")
    torch.testing.assert_close(model(cases["input_ids"]).logits, cases["logits"], rtol=0, atol=5e-5)
    if "llada" in model_type:
        assert AutoConfig.from_pretrained(folder).to_dict() == model.config.to_dict()


@pytest.mark.parametrize("model_type", ["llada", "illada", "llama", "something"])
def test_illada_that_does_not_tell_enough_is_refused(tmp_path, tiny_tokenizer, model_type):
    folder = altered(tmp_path, "a2d_llama_tiny", ILLADA | {"model_type": model_type})
    tiny_tokenizer.save_pretrained(folder)
    path = folder / "config.json"
    told = json.loads(path.read_text()) | {"qk_layernorm": True}
    del told["hidden_size"], told["rope_theta"]
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="hidden_size, rope_theta missing, qk_layernorm left over"):
        load_config(str(folder))
    with pytest.raises(ValueError, match="hidden_size, rope_theta missing, qk_layernorm left over"):
        load_model(str(folder), device="cpu")


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


@pytest.mark.parametrize("family", ["llada_tiny", "mdlm_tiny", *FAMILIES])
def test_weights_that_were_never_written(tmp_path, family):
    """Zeros everywhere, as a file that was only reserved; and in one matrix, as one that was cut and filled up."""
    folder = altered(tmp_path, family)
    tensors = load_file(folder / "model.safetensors")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    save_file(zeros, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"embeddings of this .* are zero"):
        AutoModelForCausalLM.from_pretrained(folder)
    last = max(name for name, tensor in tensors.items() if tensor.dim() > 1 and "emb" not in name and "wte" not in name)
    save_file(tensors | {last: zeros[last]}, folder / "model.safetensors", {"format": "pt"})
    with pytest.warns(UserWarning, match=r"has 1 weight \(.*\) full of zeros"):
        AutoModelForCausalLM.from_pretrained(folder)
