"""train_sft.py: its arguments, the columns of its data, and the whole script under its launchers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DatasetMixtureConfig

import train_sft
from train_sft import DataArguments, load_data, make_parser

ROOT = Path(train_sft.__file__).parent
COLUMNS = {"prompt_column": "question", "completion_column": "answer"}
RECIPE = ROOT / "configs" / "sft" / "embedded.yaml"


def parse(*arguments: str):
    return make_parser().parse_args_and_config([*arguments, "--output_dir", "out"])


# Arguments


def test_the_command_line_overrides_the_file():
    data, training, model, _ = parse("--config", str(RECIPE), "--canvas_share", "0.5")
    assert (data.dataset_name, data.prompt_column) == ("openai/gsm8k", "question")
    assert (training.canvas_length, training.canvas_share, training.output_dir) == (192, 0.5, "out")
    assert model.dtype == "float32"


def test_a_typing_error_in_a_file_is_an_error(tmp_path: Path):
    path = tmp_path / "typo.yaml"
    path.write_text(RECIPE.read_text() + "cavnas_length: 64\n")
    with pytest.raises(ValueError, match="cavnas_length"):
        parse("--config", str(path))


def test_a_typing_error_on_the_command_line_is_an_error(capsys):
    with pytest.raises((SystemExit, ValueError)) as error:
        parse("--config", str(RECIPE), "--cavnas_length", "64")
    assert "cavnas_length" in str(error.value) + capsys.readouterr().err


# Data


def test_columns_become_turns_and_the_last_rows_are_held_out(questions_file: Path):
    arguments = DataArguments(
        dataset_name="json", data_files=str(questions_file), held_out_rows=4, max_eval_rows=3, **COLUMNS
    )
    train, test = load_data(arguments, DatasetMixtureConfig(), evaluate=True)
    assert (len(train), len(test)) == (12, 3)
    assert train[0] == {
        "prompt": [{"role": "user", "content": "What is 1 and 1?"}],
        "completion": [{"role": "assistant", "content": "It is 2. #### 2"}],
    }
    assert test[2]["prompt"][0]["content"] == "What is 4 and 4?"
    assert load_data(arguments, DatasetMixtureConfig(), evaluate=False)[1] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_column": "question"}, "completion_column"),
        ({"held_out_rows": -1}, "held_out_rows=-1"),
        ({"max_eval_rows": 0}, "max_eval_rows=0"),
    ],
)
def test_impossible_data_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        DataArguments(**settings)


def test_missing_data_and_columns_are_named(questions_file: Path):
    with pytest.raises(ValueError, match="dataset_name"):
        load_data(DataArguments(), DatasetMixtureConfig(), evaluate=False)
    everything = DataArguments(dataset_name="json", data_files=str(questions_file), held_out_rows=16)
    with pytest.raises(ValueError, match="leaves nothing of 16"):
        load_data(everything, DatasetMixtureConfig(), evaluate=False)
    with pytest.raises(ValueError, match="no column `solution`; its columns are a, b"):
        train_sft.to_turns(Dataset.from_dict({"a": ["x"], "b": ["y"]}), "a", "solution")


# The script


def launch(*command: str) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]


ACCELERATE = "accelerate.commands.launch --cpu --num_processes 1 --num_machines 1 --dynamo_backend no"
TORCHRUN = "torch.distributed.run --standalone --nproc_per_node 2"


@pytest.mark.parametrize(
    "launcher",
    [pytest.param(ACCELERATE, id="accelerate"), pytest.param(TORCHRUN, id="torchrun-2", marks=pytest.mark.slow)],
)
def test_the_script_trains_evaluates_and_saves(
    launcher: str, tiny_checkpoint: Path, questions_file: Path, tmp_path: Path
):
    out = tmp_path / "out"
    launch(
        *(sys.executable, "-m", *launcher.split(), "train_sft.py", "--config", str(RECIPE)),
        *("--model_name_or_path", str(tiny_checkpoint), "--output_dir", str(out)),
        *("--dataset_name", "json", "--data_files", str(questions_file), "--held_out_rows", "4"),
        *("--max_steps", "2", "--eval_steps", "1", "--save_steps", "2", "--logging_steps", "1", "--warmup_steps", "0"),
        *("--per_device_train_batch_size", "2", "--learning_rate", "1e-2"),
    )
    before = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    after = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        assert not torch.equal(one, other)
    log = json.loads((out / "checkpoint-2" / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in log if "eval_nelbo" in entry] == [0, 1, 2]
    assert all(entry["loss"] > 0 for entry in log if "loss" in entry)
