"""Data and tokenizers that can't be trained on are met at the door, with the row or column named."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset

from trainers import MDLMTrainer, R2FTConfig, R2FTTrainer
from trainers.r2ft_trainer import read_examples
from trainers.running import run_script

EOS = 2
GENERATION_TEMPLATE = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def make_with(make_trainer: Callable[..., Any], tiny_llada: Any, chats: Dataset) -> Callable[..., Any]:
    """A trainer with a tokenizer or collator of the test's."""

    def make(tokenizer: Any, assistant_only_loss: bool = False, trainer: Any = MDLMTrainer, **settings: Any) -> Any:
        config = dict(trainer=R2FTTrainer, config=R2FTConfig, canvas_length=40) if trainer is R2FTTrainer else {}
        args = make_trainer(**config).args
        args.assistant_only_loss = assistant_only_loss
        return trainer(
            model=copy.deepcopy(tiny_llada),
            args=args,
            processing_class=tokenizer,
            **({"train_dataset": chats} | settings),
        )

    return make


# Columns and rows


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["question", "answer"], "columns are question, answer. Rows need `prompt` and `completion`"),
        (["prompt", "answer"], "columns are prompt, answer"),
        (["completion"], "columns are completion"),
    ],
)
def test_data_without_a_response_column_are_refused(make_trainer, columns, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(train_dataset=Dataset.from_dict({column: ["a", "b"] for column in columns}))


def test_a_text_column_of_another_name(make_trainer):
    stories = Dataset.from_dict({"story": ["once", "upon"]})
    with pytest.raises(ValueError, match="have no response: their columns are story"):
        make_trainer(train_dataset=stories)
    assert len(make_trainer(train_dataset=stories, dataset_text_field="story").train_dataset) == 2


def chat(content: str) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": "Hm?"}], "completion": [{"role": "assistant", "content": content}]}


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": ""}],
        [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": None}],
        [{"text": "a"}, {"text": None}],
        [chat("Hm."), chat("")],  # its template writes EOS and a line break
        [{"input_ids": [7, 8, 9], "labels": [-100, 8, 9]}, {"input_ids": [7, 8, EOS], "labels": [-100, -100, EOS]}],
    ],
    ids=["empty", "null", "text", "chat", "tokenized"],
)
def test_empty_responses_are_named(make_trainer, rows):
    with pytest.raises(ValueError, match="Row 1 of the `train` data has an empty"):
        make_trainer(train_dataset=Dataset.from_list(rows))


def test_empty_responses_of_evaluation_data_are_named(make_trainer):
    rows = Dataset.from_list([{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": ""}])
    with pytest.raises(ValueError, match="Row 1 of the `eval` data"):
        make_trainer(eval_dataset=rows)


LONG = Dataset.from_list([{"prompt": "ab", "completion": "cd"}, {"prompt": "abcdefghij", "completion": "kl"}])


def test_a_prompt_that_fills_the_length_is_named(make_trainer):
    with pytest.raises(ValueError, match="Row 1 of the `train` data: the prompt fills `max_length=10`"):
        make_trainer(train_dataset=LONG, max_length=10)
    assert make_trainer(train_dataset=LONG, max_length=11).train_dataset[1]["labels"][10] != -100


def test_cutting_at_the_start_leaves_the_response(make_trainer, tiny_tokenizer):
    with pytest.warns(FutureWarning, match="keep_end"):  # TRL's, until its 2.0
        rows = make_trainer(train_dataset=LONG, max_length=10, truncation_mode="keep_end").train_dataset
    assert tiny_tokenizer.decode(rows[1]["input_ids"]) == "defghijkl<|end|>"
    assert tiny_tokenizer.decode([label for label in rows[1]["labels"] if label != -100]) == "kl<|end|>"


def test_streamed_data(make_trainer):
    rows = [{"prompt": f"{n}?", "completion": f"{n}."} for n in range(8)]
    trainer = make_trainer(train_dataset=IterableDataset.from_generator(lambda: iter(rows)), max_steps=2)
    trainer.train()
    assert trainer.state.global_step == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_row_of_a_stream_is_named_when_it_is_reached(make_trainer, workers, capsys):
    rows = [{"prompt": f"{n}?", "completion": "" if n == 5 else f"{n}."} for n in range(8)]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    trainer = make_trainer(train_dataset=stream, max_steps=2, dataloader_num_workers=workers)
    with pytest.raises(ValueError, match="Row 5 of the `train` data has an empty response"):
        trainer.train()
    assert run_script("here", lambda: None, lambda _: trainer.train()) == 2
    sentence = "Row 5 of the `train` data has an empty response: drop it, or give it one."
    assert capsys.readouterr().err.splitlines()[-1] == f"here: error: {sentence}"


def test_what_nobody_foresaw_keeps_its_traceback(make_trainer):
    def collate(rows):
        raise ValueError("deep inside")

    trainer = make_trainer()
    trainer.data_collator = collate
    with pytest.raises(ValueError, match="deep inside"):
        run_script("here", lambda: None, lambda _: trainer.train())


# Tokenizers and collators


def test_a_tokenizer_without_eos_is_refused(make_with, tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no EOS token"):
        make_with(tokenizer)


def test_the_mask_may_be_the_pad(make_with, tiny_tokenizer):
    """As in MDLM's tokenizers: what is padding, the attention mask says."""
    runs = []
    for pad in ("<|endoftext|>", "<|mask|>"):
        tokenizer = copy.deepcopy(tiny_tokenizer)
        tokenizer.pad_token = pad
        runs.append(make_with(tokenizer))
        runs[-1].train()
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_causal_model_is_refused(make_trainer, tiny_llama):
    with pytest.raises(ValueError, match=r"LlamaForCausalLM is causal: .*causal_to_diffusion"):
        make_trainer(model=copy.deepcopy(tiny_llama))


def test_a_collator_without_attention_mask_is_refused(make_with, tiny_tokenizer):
    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        length = min(len(row["input_ids"]) for row in rows)
        return {key: torch.tensor([row[key][-length:] for row in rows]) for key in ("input_ids", "labels")}

    with pytest.raises(ValueError, match="gives no `attention_mask`"):
        make_with(tiny_tokenizer, data_collator=collate).train()


# Chats of several turns


def dialogue(tiny_tokenizer: Any) -> tuple[Any, Dataset]:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = GENERATION_TEMPLATE
    turns = [("user", "1?"), ("assistant", "One."), ("user", "2?"), ("assistant", "Two.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    return tokenizer, Dataset.from_list([{"messages": messages}] * 8)


def test_only_the_assistants_turns_are_masked_if_asked(make_with, tiny_tokenizer):
    tokenizer, rows = dialogue(tiny_tokenizer)
    trainer = make_with(tokenizer, train_dataset=rows, assistant_only_loss=True)
    row = trainer.train_dataset[0]
    covered = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(covered) == "One.<|end|>Two.<|end|>"
    assert row["input_ids"][-1] == EOS
    trainer.train()


def test_r2ft_repeats_over_the_last_turn(make_with, tiny_tokenizer):
    tokenizer, rows = dialogue(tiny_tokenizer)
    trainer = make_with(tokenizer, train_dataset=rows, assistant_only_loss=True, trainer=R2FTTrainer)
    batch = next(iter(trainer.get_train_dataloader()))
    examples = read_examples(batch, EOS)
    counted = examples.ids_BL[0][examples.response_BL[0]]
    assert tokenizer.decode(counted) == "Two.<|end|>"
    trainer.train()
    assert trainer.state.global_step == 3
