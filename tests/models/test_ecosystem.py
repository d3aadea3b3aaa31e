"""Auto classes, PEFT, bitsandbytes, Accelerate and tensor parallelism around the models."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, nn
from torch.distributed.tensor import DTensor
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, BitsAndBytesConfig
from transformers.distributed import DistributedConfig

from conv_dlm.generation import DiffusionGenerationMixin
from conv_dlm.models import MDLM, LLaDAModelLM
from tests.ranks import in_ranks

ATTENTION_PROJECTIONS = {"llada": ["q_proj", "v_proj"], "mdlm": ["attn_qkv"]}


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForMaskedLM, AutoModelForCausalLM], ids=lambda x: x.__name__)
@pytest.mark.parametrize("trust", [False, True])
def test_every_auto_class_gives_the_lm(golden, auto, trust):
    """Also with `trust_remote_code`, which existing scripts for these checkpoints pass."""
    model = auto.from_pretrained(golden.folder, trust_remote_code=trust)
    assert type(model) in (LLaDAModelLM, MDLM)
    assert isinstance(model, DiffusionGenerationMixin)
    assert model.can_generate()
    assert not model.training


@pytest.mark.parametrize("targets", ["attention", "all-linear"])
def test_lora_trains_reloads_and_merges(golden, model, targets, tmp_path):
    peft = pytest.importorskip("peft")
    targets = ATTENTION_PROJECTIONS[model.config.model_type] if targets == "attention" else targets
    ids, expected_base = golden.ids, model(golden.ids).logits
    tuned = peft.get_peft_model(
        model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=targets, r=2, init_lora_weights=False)
    )
    tuned(input_ids=ids, labels=ids).loss.backward()
    trained = {name: parameter for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name and parameter.grad is not None for name, parameter in trained.items())
    assert not any("lm_head" in name or "output_layer.linear" in name for name in trained)

    expected = tuned(input_ids=ids).logits
    assert (expected - expected_base).abs().max() > 0.1
    tuned.save_pretrained(tmp_path / "adapter")
    for load in (
        lambda: peft.PeftModel.from_pretrained(golden.load(), tmp_path / "adapter"),
        lambda: peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter"),
    ):
        assert torch.equal(load()(input_ids=ids).logits, expected)
    with tuned.disable_adapter():
        assert torch.equal(tuned(input_ids=ids).logits, expected_base)
    load().merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = AutoModel.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(merged(ids).logits, expected, rtol=0, atol=1e-4)
    assert load_file(tmp_path / "merged" / "model.safetensors").keys() == golden.tensors.keys()


def test_adapters_trained_on_the_original_code_load(golden_of, tmp_path):
    peft = pytest.importorskip("peft")
    golden = golden_of("llada")
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "up_proj"], r=2, init_lora_weights=False
    )
    tuned = peft.get_peft_model(golden.load(), config)
    tuned.save_pretrained(tmp_path)
    ours = load_file(tmp_path / "adapter_model.safetensors")
    original = {name.replace("model.layers.", "model.transformer.blocks."): tensor for name, tensor in ours.items()}
    original = {name.replace("self_attn.", "").replace("mlp.", ""): tensor for name, tensor in original.items()}
    assert "base_model.model.model.transformer.blocks.0.q_proj.lora_A.weight" in original
    save_file(original, tmp_path / "adapter_model.safetensors")
    reloaded = peft.PeftModel.from_pretrained(golden.load(), tmp_path)
    assert torch.equal(reloaded(input_ids=golden.ids).logits, tuned(input_ids=golden.ids).logits)


def test_held_conditioning_follows_adapters(golden_of):
    peft = pytest.importorskip("peft")
    golden = golden_of("mdlm")
    config = peft.LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False, task_type="CAUSAL_LM")
    tuned = peft.get_peft_model(golden.load(), config).eval()
    with torch.no_grad():
        expected = tuned(input_ids=golden.ids).logits
        with tuned.base_model.model.constant_conditioning():
            assert torch.equal(tuned(input_ids=golden.ids).logits, expected)
        with tuned.disable_adapter(), tuned.base_model.model.constant_conditioning():
            assert torch.equal(tuned(input_ids=golden.ids).logits, golden.load()(golden.ids).logits)


@pytest.mark.parametrize(
    ("bits", "error"),
    [
        ({"load_in_8bit": True}, 0.04),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}, 0.4),
    ],
    ids=["8-bit", "4-bit"],
)
def test_bitsandbytes(golden, model, bits, error, tmp_path):
    bnb = pytest.importorskip("bitsandbytes")
    quantised = golden.load(quantization_config=BitsAndBytesConfig(**bits), dtype=torch.float32, device_map="cpu")
    linear = (bnb.nn.Linear8bitLt, bnb.nn.Linear4bit)
    kept = {name for name, m in quantised.named_modules() if isinstance(m, nn.Linear) and not isinstance(m, linear)}
    if model.config.model_type == "llada":
        assert kept == {"lm_head"}
    else:
        assert all(any(part in name for part in ("sigma_map", "adaLN", "output_layer")) for name in kept)
    logits, reference = quantised(golden.ids).logits, model(golden.ids).logits
    assert 0 < (logits - reference).abs().mean() < error * reference.std()
    quantised.save_pretrained(tmp_path)
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(golden.ids).logits, logits)


def test_lora_on_a_4_bit_model(golden):
    peft, _ = pytest.importorskip("peft"), pytest.importorskip("bitsandbytes")
    quantised = golden.load(quantization_config=BitsAndBytesConfig(load_in_4bit=True), dtype=torch.float32)
    tuned = peft.get_peft_model(quantised, peft.LoraConfig(target_modules="all-linear", r=2, task_type="CAUSAL_LM"))
    tuned(input_ids=golden.ids, labels=golden.ids).loss.backward()
    assert any(p.grad is not None and p.grad.any() for name, p in tuned.named_parameters() if "lora_B" in name)


def test_offloaded_weights(golden, model):
    accelerate = pytest.importorskip("accelerate")
    expected = model(golden.ids).logits
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    assert next(model.parameters()).is_meta
    assert torch.equal(model(golden.ids).logits, expected)
    if model.config.model_type == "mdlm":  # nothing can be held, and nothing breaks
        with model.constant_conditioning():
            assert torch.equal(model(golden.ids).logits, expected)


def test_blocks_stay_whole_when_split_over_devices(golden, model):
    """`device_map="auto"` puts every block on one device: their hidden states cross, their weights don't."""
    from accelerate import infer_auto_device_map

    size = sum(p.numel() * 4 for p in model.parameters())
    device_map = infer_auto_device_map(
        model, max_memory={0: size // 2, "cpu": 10 * size}, no_split_module_classes=model._no_split_modules
    )
    assert len(set(device_map.values())) == 2
    assert not any(re.match(r"(model\.layers|backbone\.blocks)\.\d+\.", name) for name in device_map)
    assert torch.equal(golden.load(device_map="auto")(golden.ids).logits, model(golden.ids).logits)


def split_over_ranks(folder, agreed):
    cases = load_file(folder / "cases.safetensors")
    model = AutoModel.from_pretrained(folder, distributed_config=DistributedConfig(tp_plan="auto"))
    weight = model.model.layers[0].mlp.down_proj.weight
    assert isinstance(weight, DTensor) and weight.to_local().shape == (64, 48), weight.shape
    assert model.lm_head.weight.to_local().shape == (192, 64), model.lm_head.weight.shape
    with torch.no_grad():
        logits = model(cases["input_ids"]).logits
        padded = model(cases["padded_input_ids"], attention_mask=cases["padded_attention_mask"]).logits
    valid = cases["padded_attention_mask"].bool()
    assert (logits - cases["logits"]).abs().max() < 2e-5
    assert (padded - cases["padded_logits"])[valid].abs().max() < 2e-5
    (agreed / str(distributed.get_rank())).touch()
    distributed.destroy_process_group()


def test_tensor_parallel_llada_on_two_processes(golden_of, tmp_path):
    in_ranks("cpu", 2, split_over_ranks, golden_of("llada").folder, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}
