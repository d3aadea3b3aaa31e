"""Compact storage: small in the file, dense and close to the original in memory, under the original names."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from conv_dlm.models.compact import dequantize, pack, quantize, save_compact


@pytest.mark.parametrize(("bits", "bound"), [(4, 1 / 7.5), (8, 1 / 127.5)])
def test_integers_and_scales_give_the_matrix_back(bits, bound):
    weight = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    integers, scale = quantize(weight, bits, group_size=8)
    assert integers.dtype == torch.int8
    assert int(integers.min()) >= -(2 ** (bits - 1))
    assert int(integers.max()) < 2 ** (bits - 1)
    assert scale.shape == (6, 4)

    stored = pack(integers, bits)
    assert stored.dtype == (torch.uint8 if bits == 4 else torch.int8)
    assert stored.shape == (6, 32 * bits // 8)
    restored = dequantize(stored, scale)
    assert torch.equal(restored, (integers.view(6, 4, 8) * scale.float()[..., None]).view(6, 32))
    largest = weight.view(6, 4, 8).abs().amax(-1, keepdim=True)
    mean_error = (restored - weight).view(6, 4, 8).abs().mean(-1, keepdim=True) / largest
    assert mean_error.max() < bound / 2  # half a step at most; less on average


def test_packing_keeps_every_4_bit_value():
    integers = torch.arange(-8, 8, dtype=torch.int8)[None].repeat(3, 1)
    assert torch.equal(dequantize(pack(integers, 4), torch.ones(3, 1)), integers.float())


def test_a_zero_matrix_stays_zero():
    integers, scale = quantize(torch.zeros(2, 8), 4, group_size=8)
    assert torch.equal(dequantize(pack(integers, 4), scale), torch.zeros(2, 8))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loads_as_an_ordinary_dense_model(make_llada, tmp_path: Path, tied, dtype):
    model = make_llada(weight_tying=tied)
    save_compact(model, tmp_path, bits=4, group_size=16)

    stored = load_file(tmp_path / "model.safetensors")
    assert stored["model.transformer.blocks.0.q_proj.weight"].dtype == torch.uint8  # LLaDA's own tensor names
    assert stored["model.transformer.wte.weight"].dtype == torch.int8
    assert ("model.transformer.ff_out.weight" in stored) is not tied

    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype, output_loading_info=True)
    assert not any(info.values()), info
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) is tied
    for (name, original), restored in zip(model.named_parameters(), loaded.parameters(), strict=True):
        error = (restored.float() - original).norm() / original.norm()
        assert error < (0.15 if "embed" not in name and "lm_head" not in name else 0.01), name


def test_what_is_saved_afterwards_is_dense(make_llada, tmp_path: Path):
    save_compact(make_llada(), tmp_path / "compact", bits=8, group_size=16)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "compact", dtype=torch.float32)
    loaded.save_pretrained(tmp_path / "dense")
    assert "quantization_config" not in json.loads((tmp_path / "dense" / "config.json").read_text())
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path / "dense", output_loading_info=True)
    assert not any(info.values()), info
    for one, other in zip(loaded.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loaded_model_can_be_trained(make_llada, tmp_path: Path):
    save_compact(make_llada(), tmp_path, bits=8, group_size=16)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.arange(8)[None]
    loaded(input_ids=ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_integers_from_a_better_rule_are_stored_as_they_are(make_llada, tmp_path: Path):
    model = make_llada()
    name = "model.layers.0.self_attn.q_proj.weight"
    integers = torch.randint(-8, 8, (32, 32), dtype=torch.int8)
    save_compact(model, tmp_path, bits=4, group_size=16, rounded={name: (integers, torch.full((32, 2), 0.5).half())})
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(loaded.get_parameter(name), integers * 0.5)


@pytest.mark.parametrize(("settings", "word"), [({"bits": 5}, "bits=5"), ({"group_size": 20}, "group_size=20")])
def test_impossible_settings_are_named(make_llada, tmp_path: Path, settings, word):
    with pytest.raises(ValueError, match=word):
        save_compact(make_llada(), tmp_path, **settings)
