"""Samples at evaluation: what is decoded, that training doesn't notice, where they go."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from conv_dlm.answering.batching import row_generator
from trainers import MDLMTrainingConfig, R2FTConfig, R2FTTrainer
from trainers.samples import report, say, split_row, write

QUICK = dict(canvas_length=24, eval_strategy="steps", eval_steps=2, max_steps=4)


def read(trainer: Any) -> list[dict[str, Any]]:
    lines = Path(trainer.args.output_dir, "samples.jsonl").read_text().split("\n")
    return [json.loads(line) for line in lines if line]


@pytest.fixture
def make_sampling(make_trainer: Callable[..., Any], chats: Dataset) -> Callable[..., Any]:
    def make(**settings: Any) -> Any:
        sampling = dict(eval_samples=3, eval_sample_kwargs={"steps": 6, "kernel_size": 8}, eval_dataset=chats)
        return make_trainer(**(QUICK | sampling | settings))

    return make


# What is decoded


@pytest.mark.parametrize(
    ("labels", "prompt", "response"),
    [
        ([-100, -100, 7, 2], [5, 6], [7, 2]),
        ([-100, -100, 7, 2, -100, -100], [5, 6], [7, 2]),  # EOS that have no loss follow
        ([-100, 6, -100, 2], [5, 6, 7], [2]),  # the last of several responses
        ([5, 6, 7, 2], [5], [6, 7, 2]),  # plain text
    ],
)
def test_prompts_are_what_stands_before_the_response(labels, prompt, response):
    ids = [5, 6, 7, 2] + [2] * (len(labels) - 4)
    assert split_row({"input_ids": ids, "labels": labels}) == (prompt, response)


def test_samples_are_written_after_each_evaluation(make_sampling, capsys, tiny_tokenizer):
    trainer = make_sampling(eval_on_start=True)
    trainer.train()
    samples = read(trainer)
    assert [sample["step"] for sample in samples] == [0, 0, 0, 2, 2, 2, 4, 4, 4]
    assert samples[0]["prompt"] == "<|start|>user\nWhat is 1 and 1?<|end|>\n<|start|>assistant\n"
    assert samples[0]["reference"] == "It is 2. #### 2"
    assert "What is 1 and 1?" in (shown := capsys.readouterr().out)
    assert "--- step 4:" in shown

    inputs = tiny_tokenizer(samples[-3]["prompt"], return_tensors="pt")
    options = dict(decode_type="conv", max_new_tokens=24, steps=6, kernel_size=8)
    again = trainer.model.generate(**inputs, **options, generator=row_generator(0, 0))
    text = tiny_tokenizer.decode(again[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    assert samples[-3]["sample"] == text


def test_samples_do_not_depend_on_their_batches(make_sampling):
    samples = []
    for size in (1, 3):
        trainer = make_sampling(per_device_eval_batch_size=size)
        trainer.evaluate()
        samples.append(read(trainer))
    assert samples[0] == samples[1]
    assert len({sample["sample"] for sample in samples[0]}) == 3


def test_training_does_not_notice(make_sampling, make_llada):
    """Not even with dropout, which draws from torch's own generator."""
    runs = []
    for samples in (0, 2):
        runs.append(
            make_sampling(model=make_llada(attention_dropout=0.2), eval_samples=samples, eval_sample_kwargs=None)
        )
        runs[-1].train()
    for one, other in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_resumed_run_writes_no_sample_twice(make_sampling):
    saves = dict(save_strategy="steps", save_steps=2, eval_steps=1)
    whole = make_sampling(**saves)
    whole.train()
    expected = read(whole)
    resumed = make_sampling(**saves)
    resumed.train(resume_from_checkpoint=str(Path(whole.args.output_dir, "checkpoint-2")))
    assert read(resumed) == expected


def test_several_evaluation_sets(make_sampling, chats):
    trainer = make_sampling(eval_dataset={"sums": chats, "same": chats})
    trainer.evaluate()
    assert [sample["data"] for sample in read(trainer)] == ["eval_sums"] * 3 + ["eval_same"] * 3


def test_adapters_and_r2ft(make_sampling):
    trainer = make_sampling(trainer=R2FTTrainer, config=R2FTConfig, peft_config=LoraConfig(r=2), max_steps=2)
    trainer.train()
    assert [sample["reference"] for sample in read(trainer)] == [f"It is {n}. #### {n}" for n in (2, 3, 4)]


def test_plain_text_begins_with_its_first_token(make_sampling):
    texts = Dataset.from_dict({"text": ["one two", "three"] * 4})
    trainer = make_sampling(train_dataset=texts, eval_dataset=texts)
    trainer.evaluate()
    assert [sample["prompt"] for sample in read(trainer)] == ["o", "t", "o"]


# Where they go

SAMPLES = [
    {"step": 7, "data": "eval", "prompt": "a\nb", "sample": "c", "reference": "d"},
    {"step": 7, "data": "eval", "prompt": "e", "sample": "f", "reference": "g"},
]


class FakeTracker:
    """W&B's and Trackio's module, as far as it is used."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []

    def Table(self, dataframe: Any) -> Any:
        return dataframe.to_dict("records")

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)


@pytest.mark.parametrize(("kind", "module"), [(WandbCallback, "_wandb"), (TrackioCallback, "_trackio")])
def test_samples_are_a_table_in_trackers(kind, module):
    callback = kind.__new__(kind)  # without the package that it is for
    tracker = FakeTracker()
    setattr(callback, module, tracker)
    callback._initialized = False
    report(SAMPLES, [callback])
    assert tracker.logged == []
    callback._initialized = True
    report(SAMPLES, [callback])
    assert tracker.logged == [{"eval/samples": SAMPLES, "train/global_step": 7}]


def test_samples_are_text_in_tensorboard():
    written = []

    class Writer:
        def add_text(self, *args: Any) -> None:
            written.append(args)

    callback = TensorBoardCallback.__new__(TensorBoardCallback)
    callback.tb_writer = None
    report(SAMPLES, [callback])
    callback.tb_writer = Writer()
    report(SAMPLES, [callback])
    [(name, text, step)] = written
    assert (name, step) == ("eval/samples", 7)
    assert text.startswith("    a\n    b\n    --- step 7:\n    c")
    assert "\n\n---\n\n    e\n" in text


def test_a_text_may_hold_any_line_separator(tmp_path):
    for step in (1, 2):
        odd = {"step": step, "data": "eval", "prompt": "a", "sample": "\u2028b\x85c\x0b\n", "reference": "d"}
        write(tmp_path / "samples.jsonl", [odd])
    lines = (tmp_path / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["sample"] for line in lines[:-1]] == ["\u2028b\x85c\x0b\n"] * 2


def test_a_text_that_no_console_shows(tmp_path, monkeypatch):
    half = {"step": 1, "data": "eval", "prompt": "a", "sample": "\ud800b", "reference": "d"}
    write(tmp_path / "samples.jsonl", [half])
    write(tmp_path / "samples.jsonl", [half | {"step": 2}])
    assert len((tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    console = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(console, encoding="cp1252"))
    say("é 三 \ud800")
    assert console.getvalue().decode("cp1252").rstrip() == "é ? ?"


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_sample_kwargs": {"kernel_siez": 8}}, "`kernel_siez` is not known.* did you mean `kernel_size`"),
        ({"eval_sample_kwargs": {"decode_type": "convv"}}, "convv"),
        ({"eval_sample_kwargs": {"decode_type": "topk", "kernel_size": 8}}, "`kernel_size`=8 has no effect"),
        ({"eval_sample_kwargs": {"max_new_tokens": 300}}, r"`max_new_tokens`=300 and the prompt \(\d+ tokens\)"),
        ({"canvas_length": 300}, r"it has \d+ tokens, and the model a context of 256"),
        ({"eval_dataset": None, "eval_strategy": "no"}, "give the trainer an `eval_dataset`"),
    ],
)
def test_impossible_samples_are_refused_before_training(make_sampling, settings, message):
    with pytest.raises(ValueError, match=message):
        make_sampling(**settings)


def test_settings_without_effect_are_named(tmp_path):
    with pytest.raises(ValueError, match="`eval_sample_kwargs` has no effect"):
        MDLMTrainingConfig(output_dir=str(tmp_path), bf16=False, eval_sample_kwargs={"steps": 4})
    with pytest.raises(ValueError, match="eval_samples=-1"):
        MDLMTrainingConfig(output_dir=str(tmp_path), bf16=False, eval_samples=-1)
    from_the_command_line = MDLMTrainingConfig(
        output_dir=str(tmp_path), bf16=False, eval_samples=1, eval_sample_kwargs='{"steps": 4}'
    )
    assert from_the_command_line.eval_sample_kwargs == {"steps": 4}
