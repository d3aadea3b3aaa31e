"""Tiny models and data in place of those that the recipes name, as command-line arguments."""

import json
from pathlib import Path

import yaml
from transformers import GPT2Tokenizer

from conv_dlm.models import MDLM, MDLMConfig
from tests.models.families import tiny
from tests.tiny import byte_tokenizer, random_llada
from trainers import scripts

ROOT = Path(scripts.__file__).parents[1]
EMBEDDED = ROOT / "configs" / "embedded"
OTHERS = {
    "Dream-org/Dream-v0-Instruct-7B": "DreamModel",
    "dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1": "A2DQwen3LMHeadModel",
}
RECIPES = [*sorted((ROOT / "configs").glob("*ft/*.yaml")), EMBEDDED / "first_eos.yaml", EMBEDDED / "r2ft.yaml"]


def recipe_name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def write_rows(folder: Path) -> dict[bool, Path]:
    """16 sums as JSON lines, with the columns of GSM8K (`False`) and of Alpaca (`True`)."""
    sums = [(f"What is {a} and {b}?", f"It is {a + b}. #### {a + b}") for a in range(1, 5) for b in range(1, 5)]
    rows = {
        False: [{"question": question, "answer": answer} for question, answer in sums],
        True: [{"instruction": question, "input": "", "output": answer} for question, answer in sums],
    }
    files = {alpaca: folder / f"{'alpaca' if alpaca else 'gsm8k'}.jsonl" for alpaca in rows}
    for alpaca, file in files.items():
        file.write_text("".join(json.dumps(row) + "\n" for row in rows[alpaca]))
    return files


def write_models(folder: Path) -> dict[str, str]:
    """Published names and the folders with their stand-ins: a LLaDA, and an MDLM with a tokenizer like GPT-2's."""
    llada, mdlm, gpt2 = folder / "llada", folder / "mdlm", folder / "gpt2"
    # bitsandbytes packs 64 columns at a time
    random_llada(d_model=64, mlp_hidden_size=128, max_sequence_length=1024).save_pretrained(llada)
    tokenizer = byte_tokenizer()
    tokenizer.pad_token, tokenizer.mask_token = tokenizer.eos_token, None  # as the published ones
    tokenizer.save_pretrained(llada)

    alphabet = [token for token in tokenizer.get_vocab() if len(token) == 1]
    vocabulary = {token: index for index, token in enumerate([*sorted(alphabet), "<|endoftext|>"])}
    GPT2Tokenizer(vocab=vocabulary, merges=[]).save_pretrained(gpt2)
    config = MDLMConfig(vocab_size=len(vocabulary) + 1, hidden_dim=32, cond_dim=12, n_blocks=2, n_heads=4)
    MDLM(config).save_pretrained(mdlm)
    return {
        "GSAI-ML/LLaDA-8B-Base": str(llada),
        "outputs/embedded/diffusion": str(llada),
        "kuleshov-group/mdlm-owt": str(mdlm),
        "gpt2": str(gpt2),
    } | {published: str(_of(folder, name)) for published, name in OTHERS.items()}


def _of(folder: Path, model_class: str) -> Path:
    made = folder / model_class
    tiny(model_class, max_position_embeddings=1024).save_pretrained(made)
    byte_tokenizer().save_pretrained(made)
    return made


def arguments(recipe: Path, models: dict[str, str], files: dict[bool, Path], output_dir: Path) -> list[str]:
    """The recipe with stand-ins, on the CPU, a canvas of 48 tokens and two steps of four rows.

    An R2FT recipe starts from the output of its SFT recipe, which `models` has under the name that it goes by.
    """
    values = yaml.safe_load(recipe.read_text())
    options = {
        "config": recipe,
        "model_name_or_path": models[values["model_name_or_path"]],
        "output_dir": output_dir,
        "dataset_name": "json",
        "data_files": files["prompt_template" in values],
        "held_out_rows": 4,
        "use_cpu": True,
        "bf16": False,
        "dtype": "float32",
        "max_length": 400,
        "canvas_length": 48,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 2,
        "warmup_steps": 0,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "eval_steps": 1,
        "save_steps": 2,
        "disable_tqdm": True,
    }
    if "prompt_template" not in values:
        options |= {"prompt_column": "question", "completion_column": "answer"}
    if "tokenizer_name" in values:
        options["tokenizer_name"] = models[values["tokenizer_name"]]
    if values.get("load_in_4bit"):
        options["bnb_4bit_quant_storage"] = "uint8"
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]
