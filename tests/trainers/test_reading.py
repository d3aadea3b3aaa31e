"""Data of the world: read as a user means them, or refused before the first step with row, column and value."""

import copy
import json
import math
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from conv_dlm.answering.ends import end_ids, turn_end
from tests.tiny import byte_tokenizer
from trainers import MDLMTrainingConfig
from trainers.reading import check_tokens, read_row
from trainers.tokenizing import as_trained, tokenize

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


SHARE = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ({"conversations": SHARE}, {"messages": CHAT}),
        ({"messages": json.dumps(SHARE)}, {"messages": CHAT}),
        ({"messages": [{"role": "Human", "content": "Hi"}, {"role": "MODEL", "content": "Yo"}]}, {"messages": CHAT}),
        ({"messages": [CHAT[0], {"role": "bot", "content": [{"type": "text", "text": "Yo"}]}]}, {"messages": CHAT}),
        ({"prompt": 3, "completion": 5.5}, {"prompt": "3", "completion": "5.5"}),
        ({"prompt": "Hi", "completion": [CHAT[1]]}, {"prompt": [CHAT[0]], "completion": [CHAT[1]]}),
        ({"prompt": [CHAT[0]], "completion": "Yo"}, {"prompt": [CHAT[0]], "completion": [CHAT[1]]}),
        ({"text": 7}, {"text": "7"}),
        ({"text": "a\ud83d\ude00"}, {"text": "a\U0001f600"}),
        ({"prompt": "a\ud83d", "completion": [{"from": "gpt", "value": "\ud83d"}]},
         {"prompt": [user("a\ufffd")], "completion": [assistant("\ufffd")]}),
        ({"prompt": "None", "completion": "nan"}, {"prompt": "None", "completion": "nan"}),
    ],
)
def test_read_as_meant(row, read):
    before = copy.deepcopy(row)
    assert read_row(row, "text") == read
    assert row == before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": None, "completion": "a"}, "`prompt` has no value"),
        ({"prompt": "a", "completion": math.nan}, "`completion` has no value"),
        ({"prompt": "a", "completion": True}, "`completion` is True, of type bool"),
        ({"prompt": "a", "completion": 6.0}, "`completion` is 6.0, of type float"),
        ({"prompt": "a", "completion": ["a", "b"]}, r"`completion` is \['a', 'b'\]"),
        ({"prompt": "a", "completion": {"a": 1}}, "of type dict"),
        ({"prompt": ["a"], "completion": "b"}, r"`prompt` is \['a'\]"),
        ({"text": None}, "`text` has no value"),
        ({"messages": None}, "`messages` is empty"),
        ({"messages": "[]"}, "`messages` is empty"),
        ({"messages": "hello"}, "`messages` is 'hello', which is no list of messages"),
        ({"messages": CHAT[:1]}, "ends in a message of the user, 'Hi'"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "has the role 'narrator': name it one of assistant"),
        ({"messages": [{"content": "x"}]}, "has the role None"),
        ({"messages": [{"role": "user", "content": None}, CHAT[1]]}, r"`messages\[0\]` has no value"),
        ({"messages": [CHAT[0], {"role": "assistant", "content": [{"type": "image"}]}]}, "only its texts"),
        ({"messages": [CHAT[0], "Yo"]}, "no message with a role and a content"),
    ],
)
def test_refused_with_a_look_at_the_value(row, message):
    with pytest.raises(ValueError, match=message):
        read_row(row, "text")


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        ([5, 3, 6], [5, 3, 6], "holds the mask token .id 3, at token 1"),
        ([5, 999], [-100, 999], "the id 999 is none of the 260"), ([5, -7], [-100, -100], "the id -7"),
        ([5, 9, 2], [-100, 7, 2], "`labels` differ"), ([5, 9], [9], "2 `input_ids` and 1 `labels`"),
        ([5.0, 9.0], [5.0, 9.0], "no whole numbers"), ([5] * 41, [5] * 41, "41 tokens, and the model a context of 40"),
    ],
)  # fmt: skip
def test_tokens_that_a_model_cannot_have(ids, labels, message):
    with pytest.raises(ValueError, match=message):
        check_tokens(ids, labels, mask_token_id=3, vocabulary=260, context=40)
    check_tokens([5, 9], [-100, 9], mask_token_id=3, vocabulary=260, context=40)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "completion": "x<|mask|>y"}, {"prompt": "<|mask|>", "completion": "xy"},
        {"prompt": "a", "completion": "x" * 400}, {"prompt": None, "completion": "x"}, {"messages": CHAT[:1]},
    ],
)  # fmt: skip
def test_no_step_on_such_rows(make_trainer, row):
    with pytest.raises(ValueError, match="Row 0 of the `train` data"):
        make_trainer(train_dataset=Dataset.from_list([row] * 4))


def test_sharegpt_is_trained_as_a_chat(make_trainer, tiny_tokenizer):
    trainer = make_trainer(train_dataset=Dataset.from_list([{"conversations": SHARE}] * 4))
    assert tiny_tokenizer.decode(trainer.train_dataset[0]["input_ids"]) == (
        "<|start|>user\nHi<|end|>\n<|start|>assistant\nYo<|end|>"
    )


def test_two_masks_are_refused(make_trainer, make_llada):
    with pytest.raises(ValueError, match="mask token has the id 3, the model's 7"):
        make_trainer(model=make_llada(mask_token_id=7))


def test_no_rows(make_trainer):
    with pytest.raises(ValueError, match="have no rows"):
        make_trainer(train_dataset=Dataset.from_dict({"prompt": [], "completion": []}))


# The end of an answer


def turn_tokenizer() -> Any:
    """As LLaDA-8B-Instruct's: a turn ends in a token that is not EOS; here a line break follows it."""
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    return tokenizer


def test_a_turns_end_is_an_end():
    tokenizer = turn_tokenizer()
    assert turn_end(tokenizer) == 2 and end_ids(tokenizer) == [0, 2]
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    assert end_ids(tokenizer) == [0]


def test_rows_that_end_a_turn_are_padded_with_eos(make_trainer, make_llada, chats):
    model = make_llada(eos_token_id=0)
    trainer = make_trainer(model=model, canvas_length=40)
    args = trainer.args
    rows = tokenize(chats, as_trained(turn_tokenizer(), args), args, name="train", pads=True)
    ids = rows[0]["input_ids"]
    response = [label for label in rows[0]["labels"] if label != -100]
    assert ids[-1] == 0 and 2 in response and len(response) == 40
    assert set(response[response.index(2) + 1 :]) == {0}


def test_a_trained_model_says_what_ends_an_answer(make_trainer, make_llada):
    trainer = make_trainer(model=make_llada(eos_token_id=0))
    assert trainer.model.generation_config.eos_token_id == [2, 0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [user("a<|end|>b"), assistant("c")]}, r"`messages\[0\]` holds '<\|end\|>', a special token"),
        ({"prompt": [user("a")], "completion": [assistant("b<|start|>")]}, r"`completion\[0\]` holds '<\|start\|>'"),
        ({"prompt": "a", "completion": "b<|end|> c"}, r"`completion` holds '<\|end\|>', which ends an answer"),
        ({"prompt": "a", "completion": "b<|end|>c<|end|>\n<|end|>"}, r"`completion` .* before its end"),
    ],
)
def test_special_tokens_written_out(tokenizing, row, message):
    with pytest.raises(ValueError, match=f"Row 7 of the `train` data: {message}"):
        tokenizing(row, 7)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "<|start|>user\na<|end|>\n<|start|>assistant\n", "completion": "b<|end|>"},  # templated before
        {"prompt": "a", "completion": "b <|end|>\n"},
        {"text": "One.<|end|>Two.<|end|>"},
        {"messages": [user("a <b> | c"), assistant("<|think|>")]},  # no token of this tokenizer
    ],
)
def test_special_tokens_that_are_meant(tokenizing, row):
    reads_or_refuses(row, tokenizing)
    assert tokenizing(row, 7)["input_ids"]


# Numbers of a config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *((dict([(name, value)]), f"`{name}={value}` must be a finite number")
          for name in ("learning_rate", "weight_decay", "max_grad_norm", "num_train_epochs", "logging_steps")
          for value in (math.nan, math.inf)),
        *((dict([(name, 0)]), f"`{name}=0` must be at least 1")
          for name in ("gradient_accumulation_steps", "per_device_train_batch_size", "max_length")),
        (dict(max_length=-5), "at least 1"), (dict(max_steps=2.5), "whole number"), (dict(min_noise="a"), "a number"),
        (dict(canvas_share="x"), "a number"), (dict(eval_samples=True), "whole number"),
        (dict(eval_samples=1, eval_sample_kwargs="{"), "is no JSON"),
    ],
)  # fmt: skip
def test_numbers_are_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        MDLMTrainingConfig(str(tmp_path), **values)


def test_numbers_are_taken(tmp_path):
    config = MDLMTrainingConfig(str(tmp_path), learning_rate="1e-5", canvas_length=8.0, max_length=64.0, use_cpu=True)
    assert (config.learning_rate, config.canvas_length, config.max_length) == (1e-5, 8, 64)
    assert isinstance(config.canvas_length, int)


# Anything

VALUE = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
        st.sampled_from(["<|mask|>", "a<|end|>b", "<|start|>", "[]", "[{}]", "\ud800"]),
        st.just('[{"from": "gpt", "value": "x"}]'),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["role", "content", "from", "value", "type", "text", "x"]), inner, max_size=3),
        st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "gpt", 5]), "content": inner}),
    ), max_leaves=6,
)  # fmt: skip
ROW = st.one_of(
    st.fixed_dictionaries({"prompt": VALUE, "completion": VALUE}), st.fixed_dictionaries({"messages": VALUE}),
    st.fixed_dictionaries({"conversations": VALUE}), st.fixed_dictionaries({"text": VALUE}),
    st.fixed_dictionaries({"input_ids": st.lists(st.integers(-2, 300)), "labels": st.lists(st.integers(-101, 300))}),
)  # fmt: skip


def reads_or_refuses(row: dict[str, Any], tokenizing: Any) -> None:
    try:
        out = tokenizing(row, 7)
    except ValueError as error:
        assert "Row 7 of the `train` data" in str(error)
        return
    assert len(out["input_ids"]) == len(out["labels"]) and 3 not in out["input_ids"]
    assert any(label != -100 for label in out["labels"])


@pytest.fixture(scope="module")
def tokenizing(tmp_path_factory) -> Any:
    from trainers.rows import RowEnds
    from trainers.tokenizing import Tokenizing

    args = MDLMTrainingConfig(str(tmp_path_factory.mktemp("out")), use_cpu=True, bf16=False)
    tokenizer = byte_tokenizer()
    limits: Any = {"mask_token_id": 3, "vocabulary": 260, "context": 256}
    ends = RowEnds.of(args, tokenizer, True)
    return Tokenizing(tokenizer, "text", True, False, None, None, ends, None, "train", limits)


@seed(0)
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(row=ROW)
def test_any_row(tokenizing, row):
    reads_or_refuses(row, tokenizing)


@pytest.mark.slow
@seed(1)
@settings(max_examples=20000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(row=ROW)
def test_any_row_often(tokenizing, row):
    reads_or_refuses(row, tokenizing)
