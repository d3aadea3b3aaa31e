"""Rows become the ids and labels that TRL's own SFT would make of them, in memory and from a stream."""

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from trl import SFTConfig, SFTTrainer

from tests.trainers.conftest import ROWS, turns
from tests.trainers.test_bad_data import GENERATION_TEMPLATE
from trainers import MDLMTrainer, MDLMTrainingConfig, R2FTConfig, R2FTTrainer

EOS = 2
DIALOGUE = [
    {"role": "user", "content": "1?"},
    {"role": "assistant", "content": "One."},
    {"role": "user", "content": "2?"},
    {"role": "assistant", "content": "Two."},
]
FORMATS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "text": ([{"text": "Once upon"}, {"text": "a time<|end|>"}], {}),
    "text of another name": ([{"story": "Once upon"}, {"story": "a time"}], {"dataset_text_field": "story"}),
    "prompt and completion": ([{"prompt": "1+1?", "completion": " 2"}, {"prompt": "2+2?", "completion": " 4"}], {}),
    "loss on prompts too": ([{"prompt": "1+1?", "completion": " 2"}] * 2, {"completion_only_loss": False}),
    "chats": ([turns("1+1?", "2"), turns("2+2?", "4")], {}),
    "chats with tools": ([turns("1+1?", "2") | {"tools": "[]", "chat_template_kwargs": {"loud": True}}] * 2, {}),
    "messages": ([{"messages": DIALOGUE}] * 2, {}),
    "the assistant's messages": ([{"messages": DIALOGUE}] * 2, {"assistant_only_loss": True}),
    "the assistant's completions": ([turns("1+1?", "2")] * 2, {"assistant_only_loss": True}),
    "from and value": ([{"conversations": [{"from": m["role"], "value": m["content"]} for m in DIALOGUE]}] * 2, {}),
    "ids": ([{"input_ids": [7, 8, EOS]}] * 2, {}),
    "ids and labels": ([{"input_ids": [7, 8, EOS], "labels": [-100, 8, EOS]}] * 2, {}),
    "ids and a mask": ([{"input_ids": [7, 8, EOS], "completion_mask": [0, 1, 1]}] * 2, {"completion_only_loss": True}),
    "ids and the assistant's mask": ([{"input_ids": [7, 8, 9, EOS], "assistant_masks": [0, 1, 0, 1]}] * 2, {}),
}


@pytest.fixture
def tokenizer(tiny_tokenizer: Any) -> Any:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = GENERATION_TEMPLATE
    return tokenizer


@pytest.fixture
def make(tiny_llada: Any, tokenizer: Any, tmp_path: Any) -> Callable[..., MDLMTrainer]:
    def make(rows: Any, trainer: Any = MDLMTrainer, config: Any = MDLMTrainingConfig, **settings: Any) -> MDLMTrainer:
        given = {"processing_class": copy.deepcopy(tokenizer)}
        given |= {n: settings.pop(n) for n in ("processing_class", "eval_dataset", "formatting_func") if n in settings}
        plain = dict(output_dir=str(tmp_path), use_cpu=True, bf16=False, gradient_checkpointing=False, max_steps=2)
        args = config(**plain | dict(report_to="none", save_strategy="no", disable_tqdm=True) | settings)
        dataset = Dataset.from_list(rows) if isinstance(rows, list) else rows
        return trainer(model=copy.deepcopy(tiny_llada), args=args, train_dataset=dataset, **given)

    return make


def stream(rows: list[dict[str, Any]], endless: bool = False) -> IterableDataset:
    def generate() -> Iterator[dict[str, Any]]:
        yield from itertools.cycle(rows) if endless else rows

    return IterableDataset.from_generator(generate)


@pytest.mark.parametrize("which", FORMATS)
def test_rows_are_those_of_sft(which: str, make: Any, tiny_llama: Any, tokenizer: Any, tmp_path: Any) -> None:
    """But for white space that the template writes behind a closing EOS, which is cut."""
    rows, settings = FORMATS[which]
    args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, max_length=None, report_to="none", **settings)
    theirs = SFTTrainer(
        copy.deepcopy(tiny_llama), args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    ).train_dataset
    ours = make(rows, **settings).train_dataset
    assert ours.column_names == ["input_ids", "labels"] and len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs, strict=True):
        length = len(mine["input_ids"])
        assert mine["input_ids"] == other["input_ids"][:length] and mine["labels"] == other["labels"][:length]
        assert not tokenizer.decode(other["input_ids"][length:]).strip()
        assert mine["input_ids"][-1] == EOS


@pytest.mark.parametrize("which", FORMATS)
def test_a_stream_gives_the_same_rows(which: str, make: Any) -> None:
    rows, settings = FORMATS[which]
    padded = dict(max_extra_eos=6, canvas_length=40, canvas_share=0.5, seed=3)
    streamed = make(stream(rows), **settings | padded).train_dataset
    assert list(streamed) == list(make(rows, **settings | padded).train_dataset)


def test_trl_leaves_the_rows_alone(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    prepare = SFTTrainer._prepare_dataset

    def watched(self: Any, dataset: Any, *others: Any, **named: Any) -> Any:
        given.append(dataset)
        assert prepare(self, dataset, *others, **named) is dataset
        return dataset

    monkeypatch.setattr(SFTTrainer, "_prepare_dataset", watched)
    rows = [turns(*row) for row in ROWS]
    trainer = make(rows, eval_dataset={"a": Dataset.from_list(rows[:3])}, max_length=50, canvas_length=30)
    trainer.evaluate(Dataset.from_list(rows[:2]))
    assert len(given) == 3 and all(set(dataset.column_names) == {"input_ids", "labels"} for dataset in given)


def test_an_endless_stream_trains_and_is_evaluated_on(make: Any, tokenizer: Any) -> None:
    rows = [turns(*row) for row in ROWS]
    settings = dict(per_device_train_batch_size=4, max_steps=3, eval_strategy="steps", eval_steps=3, logging_steps=1)
    trainer = make(stream(rows, endless=True), eval_dataset=stream(rows[:3]), max_length=60, **settings)
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    assert trainer.state.global_step == 3 and trainer.chats
    assert not all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    logged = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert logged == [pytest.approx(trainer.evaluate(stream(rows[:3]))["eval_loss"])]
    assert list(itertools.islice(trainer.train_dataset, 16)) == list(make(rows, max_length=60).train_dataset)


def test_a_bad_row_of_a_stream_is_named_when_it_is_reached(make: Any) -> None:
    rows = [{"prompt": "1?", "completion": "One."}] * 4 + [{"prompt": "2?", "completion": None}]
    trainer = make(stream(rows), per_device_train_batch_size=5)
    with pytest.raises(ValueError, match="Row 4 of the `train` data: `completion` has no value"):
        trainer.train()


def test_other_evaluation_data_are_read_as_the_first(make: Any, tokenizer: Any) -> None:
    """R2FT pads its evaluation rows; once, also where they come in a dictionary."""
    rows = Dataset.from_list([turns(*row) for row in ROWS[:4]])
    settings = dict(trainer=R2FTTrainer, config=R2FTConfig, canvas_length=40)
    trainer = make(list(rows), eval_dataset=rows, **settings)
    expected = trainer.evaluate()["eval_loss"]
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(expected)
    both = trainer.evaluate({"one": rows, "two": rows.select([1, 2])})
    assert both["eval_one_loss"] == pytest.approx(expected) and both["eval_two_loss"] != pytest.approx(expected)
    row = trainer.eval_dataset[0]
    start = next(place for place, label in enumerate(row["labels"]) if label != -100)
    assert len(row["input_ids"]) - start == 40


def test_a_function_that_formats(make: Any, tokenizer: Any) -> None:
    rows = [{"q": "1+1?", "a": "2"}] * 2
    trainer = make(rows, formatting_func=lambda row: f"{row['q']} {row['a']}")
    assert tokenizer.decode(trainer.train_dataset[0]["input_ids"]) == "1+1? 2<|end|>"
    with pytest.raises(ValueError, match="`formatting_func` makes one text"):
        make(rows, formatting_func=lambda row: row["q"], completion_only_loss=True)


def test_prepared_rows_may_be_ones_own(make: Any) -> None:
    rows = [{"input_ids": [7, 8, 9, EOS], "labels": [-100, 8, 9, EOS]}] * 8
    trainer = make(rows, dataset_kwargs={"skip_prepare_dataset": True}, max_extra_eos=5)
    assert trainer.train_dataset[0] == rows[0]
    trainer.train()


def test_the_end_and_the_template_of_the_config(make: Any, tokenizer: Any, tmp_path: Any) -> None:
    rows = [{"messages": DIALOGUE[:2]}] * 2
    vocabulary = tokenizer.get_vocab()
    end = next(token for token in vocabulary if token.startswith("<|") and vocabulary[token] not in (EOS, 3))
    (tmp_path / "loud.jinja").write_text(
        "{% for m in messages %}{{ m['content'].upper() + '" + end + "' }}{% endfor %}"
    )
    trainer = make(rows, eos_token=end, chat_template_path=str(tmp_path / "loud.jinja"), max_extra_eos=0)
    ids = trainer.train_dataset[0]["input_ids"]
    assert tokenizer.decode(ids) == f"1?{end}ONE.{end}" and ids[-1] == trainer.processing_class.eos_token_id
    with pytest.raises(ValueError, match=r"`eos_token=<\|unheard-of\|>` is no token"):
        make(rows, eos_token="<|unheard-of|>")


def test_a_template_of_another_tokenizer_and_its_tokens(make: Any, tokenizer: Any, tmp_path: Any) -> None:
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["<|over|>"])
    other.eos_token = "<|over|>"
    other.chat_template = "{% for m in messages %}{{ m['content'] + '<|over|>' }}{% endfor %}"
    other.save_pretrained(tmp_path / "other")
    trainer = make([{"messages": DIALOGUE[:2]}] * 2, chat_template_path=str(tmp_path / "other"))
    ids = trainer.train_dataset[0]["input_ids"]
    assert ids[-1] == trainer.processing_class.eos_token_id == len(tokenizer)
    assert trainer.model.get_input_embeddings().num_embeddings > ids[-1]


def test_the_tokenizer_may_stand_beside_the_model(tiny_checkpoint: Any, make_trainer: Any, chats: Dataset) -> None:
    args = make_trainer().args
    trainer = MDLMTrainer(str(tiny_checkpoint), args, train_dataset=chats)
    assert trainer.train_dataset[0] == make_trainer().train_dataset[0]


def test_assistants_need_chats_and_marks(make: Any) -> None:
    with pytest.raises(ValueError, match="`assistant_only_loss=True` needs chats"):
        make([{"text": "Once."}] * 2, assistant_only_loss=True)
    silent = [{"messages": [{"role": "user", "content": "Hm?"}]}] * 2
    with pytest.raises(ValueError, match="ends in a message of the user"):
        make(silent, assistant_only_loss=True)


def test_data_with_a_transform_are_refused(make: Any) -> None:
    rows = Dataset.from_list([{"text": "Once."}] * 2)
    with pytest.raises(ValueError, match="The `train` data have a transform"):
        make(rows.with_transform(lambda row: row))
