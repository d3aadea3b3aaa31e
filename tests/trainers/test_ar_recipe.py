"""The recipe of the autoregressive baseline is one that TRL's own `trl sft` understands to the last key."""

from pathlib import Path

import pytest
import yaml
from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs" / "ar" / "sft.yaml"
DIFFUSION = ROOT / "configs" / "sft" / "llada_8b_lora.yaml"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The recipe on a CPU: bfloat16 training is refused where there is no GPU."""
    path = tmp_path / "sft.yaml"
    path.write_text(RECIPE.read_text().replace("bf16: true", "bf16: false\nuse_cpu: true"))
    return path


def test_trl_knows_every_key(recipe: Path) -> None:
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
    _, training, model, mixture = parser.parse_args_and_config(["--config", str(recipe)])
    assert training.completion_only_loss
    assert mixture.datasets[0].data_files == "outputs/alpaca.jsonl"
    assert model.lora_r == 64
    recipe.write_text(recipe.read_text() + "lerning_rate: 1.0\n")
    with pytest.raises(ValueError, match="lerning_rate"):
        parser.parse_args_and_config(["--config", str(recipe)])


def test_values_are_those_of_diffusion() -> None:
    """Otherwise the two are no comparison."""
    ours, theirs = (yaml.safe_load(path.read_text()) for path in (RECIPE, DIFFUSION))
    own = {"model_name_or_path", "output_dir", "datasets", "completion_only_loss"}
    own |= {"per_device_train_batch_size", "gradient_accumulation_steps"}
    assert {key: value for key, value in ours.items() if key not in own} == {
        key: theirs[key] for key in ours if key not in own
    }
    rows = [c["per_device_train_batch_size"] * c["gradient_accumulation_steps"] for c in (ours, theirs)]
    assert rows[0] == rows[1]
