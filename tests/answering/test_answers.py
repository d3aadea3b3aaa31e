"""Answers with what they cost: the same whatever the batch, cut at their end, on the right clock."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_dlm.answering import answers as answers_module
from conv_dlm.answering.answers import Answer, answer, encode, end_tokens, text_of, timed, until_end
from conv_dlm.answering.batching import row_generator

PROMPTS = ["one", "a second and longer prompt", "3"]
OPTIONS: dict[str, Any] = {"steps": 3, "max_new_tokens": 12}


def ask(model: Any, tokenizer: Any, indices: list[int], **options: Any) -> list[Answer]:
    prompts, generators = [PROMPTS[index] for index in indices], [row_generator(0, index) for index in indices]
    given_ = answer(model, tokenizer, prompts, generators, **(OPTIONS | options))
    return [replace(one, seconds=0.0) for one in given_]


def test_an_answer_does_not_depend_on_its_batch(tiny_llada: Any, tiny_tokenizer: Any) -> None:
    alone = [ask(tiny_llada, tiny_tokenizer, [index])[0] for index in range(3)]
    assert ask(tiny_llada, tiny_tokenizer, [0, 1, 2]) == alone
    assert ask(tiny_llada, tiny_tokenizer, [2, 0]) == [alone[2], alone[0]]
    assert len({tuple(one.ids) for one in alone}) == 3


def test_an_answer_is_what_generate_gives(tiny_llada: Any, tiny_tokenizer: Any) -> None:
    inputs = tiny_tokenizer([PROMPTS[0]], return_tensors="pt", add_special_tokens=False)
    # id 20 ends the text, so that there is something to cut off
    options = OPTIONS | {"eos_token_id": [2, 20], "decode_type": "llada", "steps": 12}
    tokens = tiny_llada.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :].tolist()
    cut = tokens[: next((place for place, token in enumerate(tokens) if token in (2, 20)), None)]
    (given_,) = ask(tiny_llada, tiny_tokenizer, [0], **options)
    assert given_.ids == cut and given_.ended == (len(cut) < 12)
    assert text_of(tiny_tokenizer, given_.ids) == tiny_tokenizer.decode(cut, skip_special_tokens=True)


def test_what_an_answer_costs(tiny_llada: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 106.0))
    monkeypatch.setattr(answers_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    generators = [row_generator(0, index) for index in range(3)]
    for one in answer(tiny_llada, tiny_tokenizer, PROMPTS, generators, **OPTIONS):
        assert one.seconds == 2.0  # its share
        assert len(one.unmasked_at) == 12 and set(one.unmasked_at) <= set(range(4))
        assert 1 <= one.forwards <= 4


@pytest.mark.parametrize("prompts", [[""], ["one", ""]])
def test_an_empty_prompt_is_refused(tiny_tokenizer: Any, prompts: list[str]) -> None:
    with pytest.raises(ValueError, match="A prompt is empty; without a chat template"):
        encode(tiny_tokenizer, prompts, add_special_tokens=False)


def test_prompts_are_padded_at_the_left(tiny_tokenizer: Any) -> None:
    inputs = encode(tiny_tokenizer, ["a", "abc"], add_special_tokens=False)
    assert sorted(inputs) == ["attention_mask", "input_ids"]
    assert inputs["attention_mask"].tolist() == [[0, 0, 1], [1, 1, 1]]


def test_numbers_make_a_generator_of_their_own() -> None:
    def draw(*numbers: int) -> int:
        return int(torch.randint(2**62, (), generator=row_generator(*numbers)))

    assert draw(0, 1) == draw(0, 1)
    assert len({draw(*numbers) for numbers in ((0, 1), (1, 0), (0, 11), (0, 1, 1), (0,))}) == 5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_tokens_before_the_first_end(ids: list[int], ends: set[int]) -> None:
    kept, ended = until_end(ids, ends)
    assert not set(kept) & ends and ids[: len(kept)] == kept
    assert ended == bool(set(ids) & ends) == (len(kept) < len(ids))
    assert not ended or ids[len(kept)] in ends


@pytest.mark.parametrize(
    ("own", "options", "expected"),
    [(2, {}, {2}), ([2, 3], {}, {2, 3}), (None, {}, set()), (2, {"eos_token_id": [5]}, {5}),
     (2, {"eos_token_id": None}, set())],
)  # fmt: skip
def test_which_tokens_end(own: Any, options: dict[str, Any], expected: set[int]) -> None:
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=own))
    assert end_tokens(model, options) == expected


def test_an_accelerator_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: said.append(device.type))
    assert timed(lambda: said.append("call"), torch.device("cuda"))[0] is None
    assert said == ["cuda", "call", "cuda"]
    timed(lambda: None, torch.device("cpu"))
    assert len(said) == 3
