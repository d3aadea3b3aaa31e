"""configs/embedded: from nothing to a denoiser, by the recipes as they stand, each for two steps of a tiny model."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from trl.scripts import sft as trl_sft

from conv_dlm.generation.attention import BIDIRECTIONAL, BlockCausal
from conv_dlm.models.a2d.modeling_a2d import A2DLlamaLMHeadModel
from conv_dlm.word_problems import problem, write_rows
from trainers import causal_to_diffusion, from_scratch, sft
from trainers.scripts import Arguments

RECIPES = Path(__file__).resolve().parents[2] / "configs" / "embedded"
TINY = ["--width", "32", "--layers", "1", "--heads", "2", "--inner_width", "48", "--tokenizer_rows", "50"]
SHORT = ["--max_steps", "2", "--bf16", "false", "--save_strategy", "no", "--warmup_steps", "0"]
SHORT += ["--lr_scheduler_type", "constant", "--lr_scheduler_kwargs", "{}", "--disable_tqdm", "true"]


@pytest.fixture
def recipe(tmp_path: Path):
    """`recipe("model")`: the file with this name, whose outputs are in a folder of the test."""

    def recipe(name: str) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text((RECIPES / f"{name}.yaml").read_text().replace("outputs/embedded", str(tmp_path)))
        return str(path)

    return recipe


@pytest.mark.usefixtures("few_drills")
def test_from_nothing_to_a_denoiser(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--config", recipe("model"), *TINY, "--vocab_size", "700"]
    from_scratch.main(*from_scratch.make_parser().parse_args_and_config(words))

    write_rows(tmp_path / "stories.jsonl", 1, 60, levels=(1, 2))
    write_rows(tmp_path / "worksheets.jsonl", 4, 20, levels=(4, 5), scenes=("worksheet",))
    for name in ("answers", "more_answers"):
        write_rows(tmp_path / f"{name}.jsonl", 8, 48, alike=12, drill=0.25, levels=(1, 2))
    for name in ("autoregressive", "answers", "more_answers"):
        trl_sft.main(*trl_sft.make_parser().parse_args_and_config(["--config", recipe(name), *SHORT]))
    causal = AutoModelForCausalLM.from_pretrained(tmp_path / "more_answers")
    assert isinstance(causal, LlamaForCausalLM)

    folders = [str(tmp_path / "more_answers"), str(tmp_path / "denoiser")]
    monkeypatch.setattr("sys.argv", ["causal_to_diffusion", *folders, "--shift", "--block-length", "8"])
    causal_to_diffusion.main()
    for name, attention in (("blocks", BlockCausal(8)), ("diffusion", BIDIRECTIONAL)):
        arguments = Arguments(*sft.make_parser().parse_args_and_config(["--config", recipe(name), *SHORT]))
        arguments.training.eval_strategy = "no"
        sft.train(arguments)
        denoiser = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert isinstance(denoiser, A2DLlamaLMHeadModel) and denoiser.config.shift_logits
        assert denoiser.attention_pattern == attention
    assert denoiser.num_parameters() == causal.num_parameters()


def test_batches_are_of_one_length() -> None:
    """What makes batches short of padding goes by the batch size."""
    for name in ("blocks", "diffusion"):
        values = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
        assert values["problem_rows"] == values["canvas_rows"] == values["per_device_train_batch_size"]
        assert not values["shuffle_dataset"]


def test_phases_share_no_problems() -> None:
    """Each has a seed of its own."""
    assert "--seed 1 " in (RECIPES / "autoregressive.yaml").read_text()
    assert "--seed 8 " in (RECIPES / "answers.yaml").read_text()
    assert "--seed 11 " in (RECIPES / "more_answers.yaml").read_text()
    seeds = [yaml.safe_load((RECIPES / f"{name}.yaml").read_text())["problem_seed"] for name in ("blocks", "diffusion")]
    assert len({1, 8, 11, *seeds}) == 5
    assert problem(1, 0) != problem(2, 0)
