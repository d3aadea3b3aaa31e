"""train_sft.py: its arguments, where it writes, and the whole script under its launchers."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ranks import in_ranks, run_program
from tests.trainers import a_rank, sharded_on_cpu
from tests.trainers.launching import ROOT, launch, log_of, losses_of, weights_of
from tests.trainers.sharded_on_cpu import train_sharded
from tests.trainers.stand_ins import arguments, write_models, write_rows
from trainers import MDLMTrainer, sft
from trainers.scripts import Arguments, build_trainer, check_output_dir, check_processes
from trainers.sft import main, make_parser

RECIPE = ROOT / "configs" / "embedded" / "first_eos.yaml"


def parse(*words: str) -> Arguments:
    return Arguments(*make_parser().parse_args_and_config([*words, "--output_dir", "out"]))


# Arguments


def test_the_command_line_overrides_the_file() -> None:
    parsed = parse("--config", str(RECIPE), "--canvas_share", "0.5", "--data_files", "a.jsonl", "b.jsonl")
    assert (parsed.data.dataset_name, parsed.data.problem_rows) == ("word_problems", 8)
    assert parsed.data.data_files == ["a.jsonl", "b.jsonl"]
    training = parsed.training
    assert (training.canvas_length, training.canvas_share, training.output_dir) == (256, 0.5, "out")
    assert parsed.model.attn_implementation == "eager"


def test_a_typing_error_on_the_command_line_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, ValueError)) as error:
        parse("--config", str(RECIPE), "--cavnas_length", "64")
    assert "cavnas_length" in str(error.value) + capsys.readouterr().err


def test_a_wrong_value_in_a_file_is_an_error(tmp_path: Path) -> None:
    """The parser checks no values of files."""
    path = tmp_path / "wrong.yaml"
    path.write_text(RECIPE.read_text().replace("loss_cover: response", "loss_cover: answer"))
    with pytest.raises(ValueError, match="loss_cover='answer'"):
        parse("--config", str(path))


def test_a_model_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model_name_or_path"):
        build_trainer(MDLMTrainer, parse("--dataset_name", "json", "--use_cpu", "true", "--bf16", "false"))


def test_an_adapter_is_not_adapted_again(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "data.jsonl").write_text('{"text": "One."}\n')
    words = ["--model_name_or_path", str(tmp_path), "--use_peft", "--use_cpu", "true", "--bf16", "false"]
    data = ["--dataset_name", "json", "--data_files", str(tmp_path / "data.jsonl")]
    with pytest.raises(ValueError, match="leave out `use_peft`"):
        build_trainer(MDLMTrainer, parse(*words, *data))


def test_processes_that_would_train_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    training = parse("--use_cpu", "true", "--bf16", "false").training
    check_processes(training)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes were started.*use_cpu: true"):
        check_processes(training)


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_sharding_that_would_not_happen_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training = parse("--use_cpu", "true", "--bf16", "false").training
    monkeypatch.setenv(f"ACCELERATE_USE_{kind}", "true")
    with pytest.raises(ValueError, match=f"no {kind} for `use_cpu: true`"):
        check_processes(training)


# Where it writes


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert check_output_dir(str(out), None) is None
    out.mkdir()
    (out / "runs").mkdir()  # a logger's
    assert check_output_dir(str(out), None) is None
    (out / "checkpoint-20").mkdir()
    assert check_output_dir(str(out), None) is None  # one that was not written to its end
    (out / "checkpoint-20" / "trainer_state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"up to checkpoint-20.*resume_from_checkpoint: true.*another `output_dir`"):
        check_output_dir(str(out), None)
    with pytest.raises(ValueError, match="checkpoint-20"):
        check_output_dir(str(out), "false")
    assert check_output_dir(str(out), True) is True
    assert check_output_dir(str(out), "true") is True  # as the command line has it
    assert check_output_dir(str(out), "elsewhere/checkpoint-3") == "elsewhere/checkpoint-3"


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_a_folder_with_a_model_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match="holds a model"):
        check_output_dir(str(tmp_path), None)


# How it ends


@pytest.fixture
def mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """What the script says of a mistake, in one line."""

    def run_with(recipe: str = "", **options: object) -> str:
        (tmp_path / "recipe.yaml").write_text(f"use_cpu: true\nbf16: false\n{recipe}")
        options |= {"config": tmp_path / "recipe.yaml", "output_dir": tmp_path / "out"}
        assert sft.run([word for name, value in options.items() for word in (f"--{name}", str(value))]) == 2
        (said,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        return said

    return run_with


def test_mistakes_in_arguments_are_one_sentence(mistake: Any) -> None:
    assert "The recipe is no YAML: while parsing" in mistake("a: [1\n")
    assert "unknown arguments from config file: ['--stepz', '3']" in mistake("stepz: 3\n").lower()
    assert "`model_init_kwargs={` is no JSON: Expecting" in mistake(model_init_kwargs="{")


def test_mistakes_in_names_of_data_are_one_sentence(mistake: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llada"}')
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "bad.jsonl").write_text('{"a": "b')
    load = partial(mistake, model_name_or_path=tmp_path / "model")
    assert "`dataset_name=me/none` can't be loaded: Couldn't reach" in load(dataset_name="me/none")
    assert "`dataset_name=json` reads files: name them" in load(dataset_name="json")
    for name, why in (("nope", "Unable to find"), ("empty", "there are no rows"), ("bad", "JSON parse error")):
        said = load(dataset_name="json", data_files=tmp_path / f"{name}.jsonl")
        assert f"{name}.jsonl']` can't be loaded: {why}" in said and said.endswith("are they there, and json?")


# The script


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("stand-ins")
    return write_models(folder), write_rows(folder)


def words_for(tiny: Any, output_dir: Path, rows: int, **more: object) -> list[str]:
    """Two steps of four rows by the recipe, `rows` of them at a time in each process."""
    more |= {"per_device_train_batch_size": rows, "gradient_accumulation_steps": 1, "learning_rate": 1e-3}
    more |= {"train_sampling_strategy": "random"}  # the grouping by length depends on the batch size
    more |= {"eval_samples": 2, "eval_sample_kwargs": '{"steps": 3, "max_new_tokens": 6}'}
    options = [word for name, value in more.items() for word in (f"--{name}", str(value))]
    return [*arguments(RECIPE, *tiny, output_dir), *options]


@pytest.fixture(scope="module")
def alone(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the script in one process, which is this one."""
    out = tmp_path_factory.mktemp("alone") / "out"
    main(words_for(tiny, out, 4))
    return out


def check_equal(one: Path, other: Path) -> None:
    """Both runs took the same steps, up to the order of additions."""
    assert losses_of(one / "checkpoint-2") == pytest.approx(losses_of(other / "checkpoint-2"), rel=1e-4)
    weights, others = weights_of(one), weights_of(other)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=1e-3, atol=1e-4, msg=lambda text, name=name: name + text)
    assert samples_before(one) == samples_before(other)


def samples_before(folder: Path) -> list[dict[str, Any]]:
    """What was generated before the first step: by a sharded model as by a whole one."""
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    samples = [json.loads(line) for line in lines if line]
    assert {sample["step"] for sample in samples} == {0, 1, 2}
    return [sample for sample in samples if sample["step"] == 0]


def test_the_script_trains_evaluates_and_saves(tiny: Any, alone: Path) -> None:
    before, after = weights_of(Path(tiny[0]["outputs/embedded/diffusion"])), weights_of(alone)
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    log = log_of(alone / "checkpoint-2")
    assert [entry["step"] for entry in log if "eval_nelbo" in entry] == [0, 1, 2]
    assert len(losses_of(alone / "checkpoint-2")) == 2


def test_two_processes_are_one_run(tiny: Any, alone: Path, tmp_path: Path) -> None:
    """Started by configs/accelerate/cpu.yaml, they do what one does here."""
    in_ranks("cpu", 2, run_program, "train_sft", words_for(tiny, tmp_path, 2))
    assert {path.name for path in (tmp_path / "checkpoint-2").glob("rng_state_*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }
    check_equal(alone, tmp_path)


def test_accelerate_launch_starts_what_forks_stand_for(tmp_path: Path) -> None:
    """Two processes by configs/accelerate/cpu.yaml, with what `in_ranks` gives them: else its tests prove little."""
    started, forked = tmp_path / "started", tmp_path / "forked"
    for folder in (started, forked):
        folder.mkdir()
    launch("cpu", 2, a_rank.__file__, str(started))
    in_ranks("cpu", 2, a_rank.tell, forked)
    told = [[json.loads((folder / rank).read_text()) for rank in ("0", "1")] for folder in (started, forked)]
    assert told[0] == told[1] and [one["WORLD_SIZE"] for one in told[0]] == ["2", "2"]


ON_CPU = {"ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu"}


def test_fsdp2_is_the_same_run(tiny: Any, alone: Path, tmp_path: Path) -> None:
    """Two processes that shard the model with gloo on the CPU."""
    words = words_for(tiny, tmp_path / "out", 2, use_cpu=False)
    in_ranks("fsdp2", 2, train_sharded, words, tmp_path / "told", **ON_CPU)
    assert (tmp_path / "told").read_text() == "FSDP"
    assert (tmp_path / "out" / "checkpoint-2" / "pytorch_model_fsdp.bin").is_file()
    check_equal(alone, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_is_the_same_run(stage: int, tiny: Any, alone: Path, tmp_path: Path) -> None:
    """The same with DeepSpeed, where it is installed; its checkpoints hold the states of two processes."""
    pytest.importorskip("deepspeed")
    words = [str(tmp_path / "told"), *words_for(tiny, tmp_path / "out", 2, use_cpu=False)]
    launch(f"zero{stage}", 2, sharded_on_cpu.__file__, *words, **ON_CPU)
    assert (tmp_path / "told").read_text() == "DEEPSPEED"
    assert len(list((tmp_path / "out" / "checkpoint-2").glob("global_step2/*optim_states.pt"))) == 2
    check_equal(alone, tmp_path / "out")
