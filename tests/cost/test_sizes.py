"""What memory depends on is read from a config, and weights are counted as they are stored."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from conv_dlm.cost.shapes import shape_config
from conv_dlm.cost.sizes import STORAGES, Parameters, Shape
from conv_dlm.models import LLaDAConfig, MDLMConfig

TINY: dict[str, Any] = {
    "llada": LLaDAConfig(d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, mlp_hidden_size=128, vocab_size=300),
    "tied": LLaDAConfig(d_model=64, n_layers=2, n_heads=4, mlp_hidden_size=128, vocab_size=300, weight_tying=True),
    "mdlm": MDLMConfig(hidden_dim=64, n_blocks=2, n_heads=4, vocab_size=300, cond_dim=16),
}


def on_meta(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def test_shapes_of_configs() -> None:
    assert Shape.of(shape_config("llada-8b")) == Shape(4096, 32, 12288, 126464, 128, 4096, 4096, True, 4096)
    assert Shape.of(shape_config("llada-110m")) == Shape(576, 30, 1536, 8392, 64, 576, 192, True, 1024)
    assert Shape.of(shape_config("mdlm-small")) == Shape(768, 12, 3072, 50258, 64, 768, 768, False, 1024)


def test_the_config_of_remote_code_has_names_of_its_own() -> None:
    config = SimpleNamespace(d_model=64, n_layers=2, n_heads=4, n_kv_heads=4, mlp_hidden_size=128, vocab_size=300)
    assert Shape.of(config) == Shape(64, 2, 128, 300, 16, 64, 64, True, None)


def test_a_config_without_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="'odd' model has no `hidden_size` or `d_model`"):
        Shape.of(SimpleNamespace(model_type="odd"))


@pytest.mark.parametrize("name", TINY)
def test_what_bitsandbytes_quantises(name: str) -> None:
    """Transformers itself says which layers it replaces."""
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    counted = Parameters.of(on_meta(TINY[name]))
    model = on_meta(TINY[name])
    kept = get_keys_to_not_convert(model)
    quantised = BitsAndBytesConfig(load_in_8bit=True)
    model = replace_with_bnb_linear(model, modules_to_not_convert=kept, quantization_config=quantised)
    layers = [part for part in model.modules() if type(part).__name__ == "Linear8bitLt"]
    assert counted.quantised == sum(layer.in_features * layer.out_features for layer in layers)
    assert counted.rows == sum(layer.out_features for layer in layers)


@pytest.mark.parametrize("name", TINY)
def test_stored_as_floats(name: str) -> None:
    model = on_meta(TINY[name])
    assert Parameters.of(model).stored("float32") == sum(parameter.nbytes for parameter in model.parameters())
    assert Parameters.of(model).stored("bfloat16") == sum(p.nbytes for p in model.bfloat16().parameters())


@pytest.mark.parametrize("storage", ["8bit", "4bit"])
@pytest.mark.parametrize("name", ["llada", "mdlm"])
def test_stored_as_bitsandbytes_has_it(name: str, storage: str, tmp_path: Any) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    AutoModelForCausalLM.from_config(TINY[name]).save_pretrained(tmp_path)
    options = {f"load_in_{storage}": True}
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.bfloat16, quantization_config=BitsAndBytesConfig(**options)
    )
    taken = sum(parameter.nbytes for parameter in model.parameters())
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        taken += state.absmax.nbytes if state is not None else 0
        scales = getattr(parameter, "SCB", None)
        taken += scales.nbytes if scales is not None else 0
    assert Parameters.of(on_meta(TINY[name])).stored(storage) == pytest.approx(taken, rel=1e-3)


def test_llada_8b_in_all_storages() -> None:
    parameters = Parameters.of(on_meta(shape_config("llada-8b")))
    sizes = {storage: round(parameters.stored(storage) / 1e9, 2) for storage in STORAGES}
    assert sizes == {
        "float32": 32.06, "bfloat16": 16.03, "float16": 16.03, "8bit": 9.06, "4bit": 6.0, "nf4": 5.67
    }  # fmt: skip
