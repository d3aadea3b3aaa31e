"""Models that are not simply on one device, or have an adapter for each row: as the plain model, or refused."""

import copy
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

SETTINGS = dict(decode_type="llada", block_length=8, steps=4, max_new_tokens=16)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def inputs(tiny_tokenizer):
    return tiny_tokenizer(["hello", "a longer one"], return_tensors="pt", padding=True, return_token_type_ids=False)


def on_disk(model, folder: Path):
    model.save_pretrained(folder / "saved")
    return AutoModelForCausalLM.from_pretrained(
        folder / "saved", dtype="float32", device_map={"": "disk"}, offload_folder=folder / "weights"
    )


def partly_offloaded(model, folder: Path):
    for layer in model.model.layers[1:]:
        cpu_offload(layer, execution_device=CPU)
    return model


PLACES = {
    "cpu": lambda model, _: cpu_offload(model, execution_device=CPU),
    "disk": lambda model, folder: disk_offload(model, folder, execution_device=CPU),
    "device_map": on_disk,
    "a part": partly_offloaded,
    "compiled": lambda model, _: torch.compile(model, backend="eager"),
    "compiled in place": lambda model, _: model.compile(backend="eager") or model,
}
OPTIONS = [{}, {"cache_implementation": "dual"}, {"guidance_scale": 1.5}]


@pytest.mark.parametrize(
    "place", [pytest.param(name, marks=pytest.mark.slow) if name == "compiled in place" else name for name in PLACES]
)
def test_wherever_the_weights_are(tiny_llada, inputs, tmp_path, place):
    model = PLACES[place](copy.deepcopy(tiny_llada), tmp_path)
    for options in OPTIONS[1:2] if "compiled" in place else OPTIONS:
        out = model.generate(**inputs, **SETTINGS, **options)
        assert torch.equal(out, tiny_llada.generate(**inputs, **SETTINGS, **options)), options


def test_weights_that_are_nowhere(tiny_llada, inputs):
    for lost in (lambda model: model, lambda model: model.model.layers[1].mlp.gate_proj, lambda model: model.lm_head):
        model = copy.deepcopy(tiny_llada)
        lost(model).to("meta")
        with pytest.raises(ValueError, match="are on no device"):
            model.generate(**inputs, **SETTINGS)


@pytest.fixture(scope="module")
def adapted(tiny_llada):
    """Two adapters that change what is said."""
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    model = get_peft_model(copy.deepcopy(tiny_llada), config, adapter_name="one")
    model.add_adapter("two", config)
    return model.eval()


@pytest.mark.parametrize(
    "options",
    [
        {}, {"guidance_scale": 1.5}, {"cache_implementation": "dual"}, {"cache_implementation": "window"},
        {"decode_type": "conv_threshold", "block_length": None, "steps": None}, {"eos_threshold": 0.01},
        {"guidance_scale": 1.5, "decode_type": "threshold", "steps": None, "threshold": 0.2},
    ],
    ids=str,
)  # fmt: skip
def test_an_adapter_for_each_row(adapted, tiny_tokenizer, options):
    """Each row as it is alone with its adapter, though rows leave and guidance doubles them."""
    prompts, names = ["hello", "a longer one", "x", "hello"], ["one", "two", "__base__", "two"]
    settings = {name: value for name, value in (SETTINGS | options).items() if value is not None}
    batch = tiny_tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)

    def generate(rows, names):
        generators = [torch.Generator().manual_seed(row) for row in rows]
        given = {name: value[rows] for name, value in batch.items()}
        return adapted.generate(**given, adapter_names=names, generator=generators, **settings)

    out = generate([0, 1, 2, 3], names)
    alone = torch.cat([generate([row], [name]) for row, name in enumerate(names)])
    assert torch.equal(out, alone)
    assert not torch.equal(out[3], generate([3], ["one"])[0])


def test_several_answers_with_adapters(adapted, inputs):
    given = {**inputs, "decode_type": "conv", "steps": 8, "max_new_tokens": 8, "num_return_sequences": 2}
    adapters = {"adapter_names": ["one", "two"]}
    out = adapted.generate(**given, **adapters, generator=[torch.Generator().manual_seed(row) for row in range(4)])
    each = {**inputs, "decode_type": "conv", "steps": 8, "max_new_tokens": 8}
    for row in range(4):
        alone = {name: value[row // 2 : row // 2 + 1] for name, value in inputs.items()}
        one = adapted.generate(
            **each | alone, adapter_names=[adapters["adapter_names"][row // 2]],
            generator=[torch.Generator().manual_seed(row)],
        )  # fmt: skip
        assert torch.equal(out[row], one[0])


def test_adapter_names_that_can_t_be(adapted, tiny_llada, inputs):
    with pytest.raises(ValueError, match="`adapter_names` has 3 names for 2 rows"):
        adapted.generate(**inputs, **SETTINGS, adapter_names=["one", "two", "one"])
    with pytest.raises(ValueError, match="`adapter_names` has 1 names for 2 rows"):
        adapted.generate(**inputs, **SETTINGS, adapter_names=["one"])
    with pytest.raises(ValueError, match="PeftModel"):
        tiny_llada.generate(**inputs, **SETTINGS, adapter_names=["one", "two"])
