"""LoRA and QLoRA of both models: where adapters go, that they alone train, and what can be done with them after."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from conv_dlm import SettingError
from conv_dlm.models import MDLM, MDLMConfig
from trainers import MDLMTrainer
from trainers.adapters import complete

ADAPTED = {
    "llada": {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
    "mdlm": {"attn_qkv", "attn_out", "mlp.0", "mlp.2"},
}


@pytest.fixture(scope="session")
def models(make_llada: Callable[..., Any]) -> dict[str, PreTrainedModel]:
    """A tiny model of each kind for the tests' tokenizer; 64 wide, since bitsandbytes packs 64 columns at a time."""
    llada = make_llada(d_model=64, mlp_hidden_size=128)
    sizes = dict(hidden_dim=64, n_blocks=2, n_heads=4, cond_dim=16, model_length=256)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mdlm = MDLM(MDLMConfig(vocab_size=260, mask_token_id=3, bos_token_id=1, eos_token_id=2, **sizes))
        for parameter in mdlm.parameters():  # adaLN-Zero would hide what the blocks do
            torch.nn.init.normal_(parameter, std=0.1)
    return {"llada": llada, "mdlm": mdlm.eval()}


@pytest.fixture(params=ADAPTED)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def base(kind: str, models: dict[str, PreTrainedModel], tiny_tokenizer: Any, tmp_path: Path) -> Path:
    """A checkpoint of the tiny model."""
    models[kind].save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(trainer: MDLMTrainer) -> set[str]:
    """Names of the parameters that training has moved."""
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    return {name for name, p in trainer.model.named_parameters() if not torch.equal(before[name], p)}


def layers(parameters: set[str]) -> set[str]:
    """Layers inside a block that the names of LoRA's parameters belong to."""
    return {
        ".".join(name.split(".lora_")[0].split(".")[-2:]).removeprefix("0.").removeprefix("1.") for name in parameters
    }


# Where adapters go, and that they train


def test_lora_goes_to_the_layers_of_the_paper_and_reloads(make_trainer, tmp_path, kind, base, tiny_tokenizer):
    trainer = make_trainer(model=str(base), peft_config=LoraConfig(r=2, lora_dropout=0.1), max_steps=4)
    names = trained(trainer)
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    assert names == {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert layers(names) == ADAPTED[kind]
    assert len(names) == 2 * 2 * len(ADAPTED[kind])  # A and B in two blocks

    trainer.save_model(str(tmp_path / "adapter"))
    tuned = trainer.model.eval()
    inputs = tiny_tokenizer(["What is 2 and 2?"], return_tensors="pt")
    with torch.no_grad():
        logits = tuned(**inputs).logits
        reloaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
        assert torch.equal(reloaded(**inputs).logits, logits)
        assert not torch.allclose(AutoModelForCausalLM.from_pretrained(base)(**inputs).logits, logits, atol=1e-3)
        reloaded.merge_and_unload().save_pretrained(tmp_path / "merged")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(merged(**inputs).logits, logits, rtol=1e-4, atol=1e-4)


def test_the_adapted_model_generates(make_trainer, kind, models, tiny_tokenizer):
    trainer = make_trainer(
        model=copy.deepcopy(models[kind]), peft_config=LoraConfig(r=2), max_steps=2, learning_rate=0.1
    )
    trainer.train()
    tuned = trainer.model.eval()
    inputs = tiny_tokenizer(["What is 2 and 2?", "3?"], padding=True, return_tensors="pt")
    options = dict(decode_type="conv", steps=8, max_new_tokens=16, kernel_size=4, top_k=1, pad_token_id=0)
    ids = tuned.generate(**inputs, **options, generator=torch.Generator().manual_seed(0))
    assert ids.shape == (2, inputs.input_ids.shape[1] + 16)
    assert not (ids == 3).any()
    merged = copy.deepcopy(tuned).merge_and_unload()
    assert torch.equal(ids, merged.generate(**inputs, **options, generator=torch.Generator().manual_seed(0)))
    with tuned.disable_adapter():
        plain = tuned.generate(**inputs, **options, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(ids, plain)


def test_qlora_trains_its_adapters_alone(make_trainer, kind, base):
    """4 bits on a CPU: only what is not quantised may move, and of that only adapters."""
    pytest.importorskip("bitsandbytes")
    quantisation = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="float32")
    trainer = make_trainer(
        model=str(base),
        peft_config=LoraConfig(r=2),
        quantization_config=quantisation,
        gradient_checkpointing=True,
        model_init_kwargs={"dtype": "float32"},
        learning_rate=0.1,
        max_steps=2,
    )
    assert trainer.model.get_base_model().is_loaded_in_4bit
    names = trained(trainer)
    assert layers(names) == ADAPTED[kind]
    assert all(".lora_" in name for name in names)
    assert [entry["loss"] > 0 for entry in trainer.state.log_history if "loss" in entry] == [True, True]


# What a config leaves open, and what it may not name


def test_what_is_given_stays(models):
    config = LoraConfig(target_modules=["o_proj"], task_type="FEATURE_EXTRACTION")
    completed = complete(config, models["llada"])
    assert completed.target_modules == {"o_proj"}
    assert completed.task_type == "FEATURE_EXTRACTION"
    assert complete(LoraConfig(target_modules="all-linear"), models["mdlm"]).target_modules == "all-linear"


def test_what_is_left_open_is_filled_in_on_a_copy(models):
    config = LoraConfig()
    assert complete(config, models["llada"]).task_type == TaskType.CAUSAL_LM
    assert config.task_type is None
    assert config.target_modules is None
    assert complete(IA3Config(), models["llada"]).target_modules is None  # PEFT's own matter


@pytest.mark.parametrize(
    ("kind", "target", "message"),
    [
        ("llada", "lm_head", "'lm_head', the output head"),
        ("llada", "ff_out", "called 'down_proj' here. `ff_out` is also how they call the output head"),
        ("llada", "model.transformer.ff_out", "output head, which stays as it is"),
        ("llada", "attn_out", "called 'o_proj' here"),
        ("mdlm", "output_layer.linear", "'output_layer.linear', the output head"),
        ("mdlm", "linear", "'linear', the output head"),
    ],
    indirect=["kind"],
)
def test_names_that_mislead_are_refused(make_trainer, models, kind, target, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(model=models[kind], peft_config=LoraConfig(target_modules=["q_proj", target]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(target_modules=["q_proj", "k_porj"]), r"`target_modules` holds 'k_porj', .* did you mean 'k_proj'\?"),
        (dict(target_modules=["q_proj"], modules_to_save=["lm_haed"]), r"holds 'lm_haed', .*'lm_head'"),
    ],
)
def test_a_name_that_leads_nowhere_is_named(make_trainer, models, config, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(model=copy.deepcopy(models["llada"]), peft_config=LoraConfig(**config))
    whole_name = ["model.layers.0.self_attn.q_proj", "v_proj"]
    make_trainer(model=copy.deepcopy(models["llada"]), peft_config=LoraConfig(target_modules=whole_name))


PROMPTS = dict(task_type="CAUSAL_LM", num_virtual_tokens=4, token_dim=64, num_attention_heads=4, num_layers=2)


@pytest.mark.parametrize("kind_of_prompt", [PromptTuningConfig, PrefixTuningConfig, PromptEncoderConfig])
def test_vectors_before_the_text_are_refused(make_trainer, models, kind_of_prompt, tiny_tokenizer):
    """PEFT would hand `generate` to the base model, which knows nothing of them."""
    base = copy.deepcopy(models["llada"])
    with pytest.raises(ValueError, match=r"`peft_config` is of the type P.*vectors before the text"):
        make_trainer(model=base, peft_config=kind_of_prompt(**PROMPTS))
    model = get_peft_model(base, kind_of_prompt(**PROMPTS))
    with pytest.raises(ValueError, match="vectors before the text"):
        make_trainer(model=model)
    ids = tiny_tokenizer("One.", return_tensors="pt").input_ids
    with pytest.raises(SettingError, match="`adapter` of the type P"):
        model.generate(input_ids=ids, max_new_tokens=4)
    with model.disable_adapter():
        assert model.generate(input_ids=ids, max_new_tokens=4).shape == (1, ids.shape[1] + 4)


def test_the_head_can_be_trained_whole(make_trainer, models):
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
    names = trained(make_trainer(model=copy.deepcopy(models["llada"]), peft_config=config, max_steps=1))
    assert any("lm_head" in name for name in names)
