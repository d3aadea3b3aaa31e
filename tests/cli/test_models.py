"""`conv-dlm models`: the published models, and that the table in the documents has the same."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

import conv_dlm.cost.report
from conv_dlm import models
from conv_dlm.cli import main
from conv_dlm.cost.sizes import Parameters
from conv_dlm.generation.configuration import user_settings
from conv_dlm.models.published import FAMILIES
from tests.models.families import FIXTURES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


def test_the_list_names_every_model_with_the_memory_of_its_weights(capsys):
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert "GSAI-ML/LLaDA-8B-Instruct" in shown
    assert "8.02 B weights, GiB: 14.9 bf16, 8.4 8-bit, 5.6 4-bit" in shown  # as README has it of `conv-dlm fit`
    assert "16.26 B weights, GiB: 30.3 bf16, 30.0 8-bit, 29.9 4-bit" in shown  # of a mixture, whose experts stay
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [family["name"] for family in listed] == [family.name for family in FAMILIES]
    assert all(set(family["settings"]) <= set(user_settings()) for family in listed)
    assert listed[0]["checkpoints"]["GSAI-ML/LLaDA-1.5"] == {"weights": 8.02, "quantised": 6.98}
    assert "threshold=0.95, cache_implementation='block'" in shown


def qwen(width, mlp, layers, heads, kv_heads, **more):
    return dict(
        hidden_size=width, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads,
    ) | more  # fmt: skip


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("GSAI-ML/LLaDA-8B-Base",
         dict(d_model=4096, n_layers=32, n_heads=32, mlp_hidden_size=12288, vocab_size=126464)),
        ("kuleshov-group/mdlm-owt", {}),
        ("Dream-org/Dream-v0-Base-7B", qwen(3584, 18944, 28, 28, 4, vocab_size=152064)),
        ("dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1", qwen(1024, 3072, 28, 16, 8, head_dim=128, vocab_size=151936)),
        ("JetLM/SDAR-1.7B-Chat", qwen(2048, 6144, 28, 16, 8, head_dim=128, vocab_size=151936)),
        ("Efficient-Large-Model/Fast_dLLM_v2_1.5B",
         qwen(1536, 8960, 28, 12, 2, vocab_size=151936, tie_word_embeddings=True)),
        ("inclusionAI/LLaDA2.0-mini",
         qwen(2048, 5120, 20, 16, 4, head_dim=128, vocab_size=157184, moe_intermediate_size=512)),
    ],
)  # fmt: skip
def test_sizes_are_those_of_models_that_large(name, sizes):
    family = next(family for family in FAMILIES if name in family.checkpoints)
    its_class = getattr(models, family.model_class.split(", ")[0])
    with torch.device("meta"):
        counted = Parameters.of(its_class(its_class.config_class(**sizes)))
    expected = (round(counted.total / 1e9, 2), round(counted.quantised / 1e9, 2))
    assert family.checkpoints[name] == expected


def test_the_list_has_every_class_and_says_of_it_what_its_config_says():
    listed = {name: family for family in FAMILIES for name in family.model_class.split(", ")}
    assert set(listed) == {model.__name__ for model in models.MODELS}
    for model in models.MODELS:
        family, config = listed[model.__name__], model.config_class(vocab_size=160000)
        pattern = getattr(config, "attention_pattern", "full")
        blocks = f"blocks of {config.block_length}" if pattern == "block_causal" else "full"
        assert family.attention.startswith(blocks)
        assert family.predicts == ("next" if getattr(config, "shift_logits", False) else "same")
        if model is not models.MDLM:  # whose mask is the last token, whatever the size
            assert config.mask_token_id in (family.mask_token_id, None)
        assert isinstance(AutoConfig.for_model(config.model_type), model.config_class)


def test_the_features_of_each_family_with_their_tests(capsys):
    assert main(["models", "--features"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^SDAR +yes +yes +yes +yes +yes +bd3lm ", shown, re.M)
    assert "trainer    tests/trainers/test_families.py::test_both_trainers_train" in shown
    assert "bd3lm      tests/trainers/test_families.py::test_block_by_block_they_train" in shown
    assert main(["models", "--features", "--json"]) == 0
    cell = json.loads(capsys.readouterr().out)["LLaDA2"]["trainer"]
    test = "tests/trainers/test_families.py::test_block_by_block_they_train[LLaDA2MoeModelLM]"
    assert cell == {"works": "bd3lm", "test": test}


def test_the_document_names_every_family_and_mask():
    for family in FAMILIES:
        assert all(name in DOCUMENT for name in family.name.split(", "))
        assert str(family.mask_token_id) in DOCUMENT


def test_fit_counts_experts(capsys, monkeypatch):
    # a row of each table, and nothing searched for
    monkeypatch.setattr(conv_dlm.cost.report, "GENERATING", ("float32",))
    monkeypatch.setattr(conv_dlm.cost.report, "TRAINING", {"bfloat16": "LoRA"})
    assert main(["fit", str(FIXTURES / "llada2_tiny"), "--memory", "1e-6", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    weights = load_file(FIXTURES / "llada2_tiny" / "model.safetensors").items()
    assert report["parameters"] == sum(tensor.numel() for name, tensor in weights if "expert_bias" not in name)
    assert all(row["activations"] > 0 for row in report["generate"] + report["train"])
