"""configs/: every recipe runs with tiny stand-ins, and Accelerate reads every file of its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainers.launching import launched
from tests.trainers.stand_ins import RECIPES, ROOT, arguments, recipe_name, write_models, write_rows
from trainers import MDLMTrainer, R2FTTrainer, r2ft, sft
from trainers.scripts import Arguments, build_trainer, finetune

SCRIPTS: dict[str, Any] = {recipe_name(path): r2ft if "r2ft" in recipe_name(path) else sft for path in RECIPES}
VALUES = {recipe_name(path): yaml.safe_load(path.read_text()) for path in RECIPES}
CHAINS = {  # an R2FT recipe and the SFT recipe whose output it starts from
    name: next(sft for sft in VALUES if VALUES[sft]["output_dir"] == values["model_name_or_path"])
    for name, values in VALUES.items()
    if SCRIPTS[name] is r2ft
}
ALONE = sorted(set(VALUES) - set(CHAINS) - set(CHAINS.values()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[bool, Path]]:
    folder = tmp_path_factory.mktemp("stand-ins")
    return write_models(folder), write_rows(folder)


def parse(name: str, tiny: tuple[dict[str, str], dict[bool, Path]], output_dir: Path) -> Arguments:
    models, files = tiny
    words = arguments(ROOT / "configs" / f"{name}.yaml", models, files, output_dir)
    return Arguments(*SCRIPTS[name].make_parser().parse_args_and_config(words))


# Recipes


def test_there_are_recipes_for_all() -> None:
    models = ("mdlm_small", "llada_8b_lora", "llada_8b_qlora")
    chains = {f"r2ft/{model}": f"sft/{model}" for model in models} | {"embedded/r2ft": "embedded/first_eos"}
    assert chains.items() <= CHAINS.items()
    assert ALONE == ["sft/a2d_qwen3_600m", "sft/dream_7b_lora"]


@pytest.mark.parametrize("name", ALONE)
def test_a_recipe_builds_data_model_and_trainer(name: str, tiny: Any, tmp_path: Path) -> None:
    trainer = build_trainer(MDLMTrainer, parse(name, tiny, tmp_path))
    assert len(trainer.train_dataset) == 12
    assert len(trainer.eval_dataset) == 4


@pytest.mark.parametrize(("second_recipe", "first_recipe"), CHAINS.items(), ids=CHAINS)
def test_sft_and_then_r2ft_by_their_recipes(second_recipe: str, first_recipe: str, tiny: Any, tmp_path: Path) -> None:
    """Both for two steps: what the first saves is what the second starts from; adapters stay adapters."""
    models, files = tiny
    first, second = tmp_path / "sft", tmp_path / "r2ft"
    finetune(MDLMTrainer, parse(first_recipe, tiny, first))
    chained = {**models, VALUES[first_recipe]["output_dir"]: str(first)}
    finetune(R2FTTrainer, parse(second_recipe, (chained, files), second))

    lora = "lora" in second_recipe
    load: Any = AutoPeftModelForCausalLM if lora else AutoModelForCausalLM
    before, after = (load.from_pretrained(folder) for folder in (first, second))
    moved = [
        (name, not torch.equal(old, new))
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
    ]
    assert [name for name, has_moved in moved if has_moved != (not lora or "lora_" in name)] == []
    if not lora:  # `generate` knows where a text ends
        ends = after.generation_config.eos_token_id
        assert AutoTokenizer.from_pretrained(second).eos_token_id in (ends if isinstance(ends, list) else [ends])
    else:
        assert after.peft_config["default"].r == 64
        assert {name.split(".lora_")[0].rsplit(".")[-1] for name, _ in moved if "lora_" in name} == {
            "q_proj",
            "k_proj",
            "v_proj",
        }


def test_mdlms_borrowed_tokenizer(tiny: Any, tmp_path: Path) -> None:
    """GPT-2's has neither mask nor padding and adds no start token: the mask is the model's, texts begin with EOS."""
    trainer = build_trainer(MDLMTrainer, parse("sft/mdlm_small", tiny, tmp_path))
    eos = trainer.processing_class.eos_token_id
    row = trainer.train_dataset[0]
    assert trainer.mask_token_id == eos + 1 == trainer.model.config.vocab_size - 1
    assert row["input_ids"][0] == eos
    assert row["input_ids"].count(eos) > 2  # the response's own, and those that pad it
    trainer.save_model(str(tmp_path))
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved("Hi").input_ids[0] == eos


def test_the_papers_values() -> None:
    for name in ("mdlm_small", "llada_8b_lora", "llada_8b_qlora"):
        sft, r2ft = VALUES[f"sft/{name}"], VALUES[f"r2ft/{name}"]
        for values in (sft, r2ft):
            assert values["per_device_train_batch_size"] * values["gradient_accumulation_steps"] == 512
            assert (values["max_length"], values["canvas_length"], values["loss_cover"]) == (1024, 1024, "response")
            assert (values["dataset_name"], values["prompt_template"]) == ("tatsu-lab/alpaca", "alpaca")
        assert (sft["learning_rate"], r2ft["learning_rate"]) == (3e-5, 5e-6)
        assert 200 <= r2ft["max_steps"] <= 300
        assert (r2ft["corruption"], r2ft["beta_a"], r2ft["max_z"], r2ft["eos_p"]) == ("repeat", 0.1, 50, 1.0)
    assert VALUES["sft/mdlm_small"]["num_train_epochs"] == 35
    for name in ("sft/llada_8b_lora", "sft/llada_8b_qlora"):
        values = VALUES[name]
        assert (values["lora_r"], values["lora_alpha"], values["lora_dropout"]) == (64, 16, 0.1)
        assert values["lora_target_modules"] == ["q_proj", "k_proj", "v_proj"]
        assert values["num_train_epochs"] == 3


@pytest.mark.parametrize("kind", ["sft", "r2ft"])
def test_lora_and_qlora_differ_in_the_base_model_alone(kind: str) -> None:
    lora, qlora = (VALUES[f"{kind}/llada_8b_{name}"] for name in ("lora", "qlora"))
    different = {key for key in qlora.keys() | lora.keys() if qlora.get(key) != lora.get(key)}
    names = {"output_dir"} | ({"model_name_or_path"} if kind == "r2ft" else set())
    quantisation = {"load_in_4bit", "bnb_4bit_quant_type", "use_bnb_nested_quant", "bnb_4bit_quant_storage"}
    assert different == names | quantisation


# A typing error in a recipe


@pytest.mark.parametrize("path", RECIPES, ids=recipe_name)
def test_a_typing_error_is_an_error(path: Path, tmp_path: Path) -> None:
    typo = tmp_path / "typo.yaml"
    typo.write_text(path.read_text() + "lernaing_rate: 1.0e-5\n")
    with pytest.raises(ValueError, match="lernaing_rate"):
        SCRIPTS[recipe_name(path)].make_parser().parse_args_and_config(["--config", str(typo), "--bf16", "False"])


# Accelerate


def test_accelerates_files_leave_precision_to_the_recipes() -> None:
    """`mixed_precision: bf16` in a file would win over a recipe's `bf16: false`."""
    names = {path.stem for path in (ROOT / "configs" / "accelerate").glob("*.yaml")}
    assert names == {"cpu", "single_gpu", "ddp", "fsdp2", "zero2", "zero3"}
    assert {launched(name).mixed_precision for name in names} == {"no"}


def test_one_process_on_one_gpu() -> None:
    options = launched("single_gpu")
    assert not (options.multi_gpu or options.use_fsdp or options.use_deepspeed)
    assert prepare_simple_launcher_cmd_env(options)[0][1:] == ["train_sft.py"]


@pytest.mark.parametrize(("name", "processes"), [("cpu", 2), ("ddp", 8)])
def test_one_process_for_each_device(name: str, processes: int) -> None:
    """`multi_gpu` is what makes the launcher start several, on CPUs too."""
    options = launched(name)
    assert options.multi_gpu
    prepare_multi_gpu_env(options)
    assert options.nproc_per_node == str(processes)
    assert launched(name, "--num_processes", "1").num_processes == 1


def test_fsdp2(monkeypatch: pytest.MonkeyPatch) -> None:
    options = launched("fsdp2")
    assert options.use_fsdp
    for key, value in prepare_multi_gpu_env(options).items():
        monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert str(plugin.state_dict_type) == "StateDictType.FULL_STATE_DICT"
    assert plugin.cpu_ram_efficient_loading


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Accelerate hands to DeepSpeed; where that is installed, its own validation too."""
    options = launched(f"zero{stage}")
    assert options.use_deepspeed
    options.deepspeed_fields_from_accelerate_config = ""
    _, environment = prepare_deepspeed_cmd_env(options)
    assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == str(stage)
    assert environment.get("ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL", "false") == str(stage == 3).lower()
    assert environment["ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE"] == "none"
    pytest.importorskip("deepspeed")
    from accelerate.utils import DeepSpeedPlugin

    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert DeepSpeedPlugin().deepspeed_config["zero_optimization"]["stage"] == stage
