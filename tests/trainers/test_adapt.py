"""From a causal model to one that sees block by block, or both ways: configs/adapt with a tiny causal model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny import byte_tokenizer
from tests.trainers.launching import ROOT
from trainers import causal_to_diffusion, sft
from trainers.scripts import Arguments

RECIPES = sorted((ROOT / "configs" / "adapt").glob("*.yaml"))
IDS = torch.tensor([[5, 9, 200, 12, 40, 41]])


FAMILIES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}


@pytest.fixture(scope="module")
def causals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family whose tokenizer has no mask token, and whose vocabulary has no room for one."""
    folders = {}
    for name, (config_class, model_class) in FAMILIES.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)
        tokenizer = byte_tokenizer()
        tokenizer.mask_token = None
        config = config_class(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, intermediate_size=48, head_dim=16, tie_word_embeddings=True, eos_token_id=2,
            pad_token_id=0, bos_token_id=1,
        )  # fmt: skip
        torch.manual_seed(0)
        model = model_class(config)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.3)  # biases and norms, too
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folders


@pytest.fixture
def causal(causals: dict[str, Path]) -> Path:
    return causals["qwen3"]


def adapt(causal: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr("sys.argv", ["causal_to_diffusion", str(causal), str(folder), *words])
    causal_to_diffusion.main()
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_at_a_block_length_of_1_it_is_the_causal_model(
    family: str, causals: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same logits, and the same greedy text; the mask is new, and the mean of what was there."""
    causal = causals[family]
    monkeypatch.setattr(causal_to_diffusion, "MASK_TOKEN", "<|a new one|>")  # the tokenizer has `<|mask|>` as a word
    before = AutoModelForCausalLM.from_pretrained(causal).eval()
    size = before.config.vocab_size
    start = adapt(causal, tmp_path, monkeypatch, "--shift", "--block-length", "1")
    mask = AutoTokenizer.from_pretrained(tmp_path).mask_token_id
    assert start.config.mask_token_id == mask == size and start.config.vocab_size == size + 1
    assert (start.config.attention_pattern, start.config.block_length, start.shift_logits) == ("block_causal", 1, True)
    embedding = before.get_input_embeddings().weight
    assert torch.equal(start.get_input_embeddings().weight[:size], embedding)
    torch.testing.assert_close(start.get_input_embeddings().weight[size], embedding.mean(0))
    with torch.no_grad():
        torch.testing.assert_close(start(IDS).logits[..., :size], before(IDS).logits, rtol=1e-4, atol=1e-4)
    theirs = before.generate(IDS, max_new_tokens=8, do_sample=False, eos_token_id=None)
    ours = start.generate(IDS, max_new_tokens=8, decode_type="threshold", temperature=0.0, eos_token_id=None)
    assert ours[0, IDS.shape[1] :].tolist() == theirs[0, IDS.shape[1] :].tolist()


@pytest.mark.parametrize("words", [["--block-length", "4"], ["--shift", "--block-length", "4"], ["--shift"], []])
def test_attention_and_shift_are_chosen(
    causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    start = adapt(causal, tmp_path, monkeypatch, *words)
    assert start.shift_logits == ("--shift" in words)
    length = 4 if "--block-length" in words else None
    assert start.config.block_length == length
    other = IDS.clone()
    other[0, 3:] = 50
    with torch.no_grad():  # the first token sees the fourth, and not the fifth
        first = start(IDS).logits[0, 0], start(other).logits[0, 0]
        other[0, :4] = IDS[0, :4]
        behind = start(other).logits[0, 0]
    assert not torch.allclose(*first)
    assert torch.allclose(first[0], behind, atol=1e-5) == (length == 4)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_train(
    path: Path, causals: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of the recipe's comment, on a tiny model of its family, and two steps of the recipe."""
    causal = causals[path.stem.partition("_")[0]]
    command = next(line for line in path.read_text().splitlines() if "trainers.causal_to_diffusion" in line).split()
    values = yaml.safe_load(path.read_text())
    assert command[5] == values["model_name_or_path"]
    adapt(causal, tmp_path / "start", monkeypatch, *command[6:])
    rows = [{"instruction": f"Add {n} and 2.", "input": "", "output": f"It is {n + 2}."} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "config": path, "model_name_or_path": tmp_path / "start", "output_dir": tmp_path / "out",
        "dataset_name": "json", "data_files": tmp_path / "rows.jsonl", "held_out_rows": 2, "max_steps": 2,
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "eval_steps": 2, "save_steps": 2,
        "dtype": "float32", "bf16": "false", "use_cpu": "true", "disable_tqdm": "true", "learning_rate": 1e-2,
        "warmup_steps": 0,
    }  # fmt: skip
    told = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    sft.train(Arguments(*sft.make_parser().parse_args_and_config(told)))
    before, after = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("start", "out"))
    assert after.config.attention_pattern == before.config.attention_pattern
    moved = (torch.equal(old, new) for old, new in zip(before.parameters(), after.parameters(), strict=True))
    assert not any(moved)


def test_a_block_without_positions_is_refused(
    causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        adapt(causal, tmp_path, monkeypatch, "--block-length", "0")
    assert "--block-length 0 must be 1 or more" in capsys.readouterr().err
