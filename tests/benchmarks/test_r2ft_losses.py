"""The loss on the answers to questions."""

import math
from typing import Any

import pytest
import torch

from benchmarks.r2ft_study.losses import Question, answer_losses, as_questions


@pytest.fixture
def questions(tiny_tokenizer: Any) -> list[Question]:
    prompts = [f"What is {i} + {'1' * i}?" for i in range(1, 5)]
    return as_questions(tiny_tokenizer, prompts, [f"It is <<{i}+1={i + 1}>>\n#### {i + 1}" for i in range(1, 5)])


def test_losses_do_not_depend_on_the_batch(tiny_llada: Any, tiny_tokenizer: Any, questions: list[Question]) -> None:
    pytest.importorskip("trl")
    one, four = (answer_losses(tiny_llada, tiny_tokenizer, questions, 0, size) for size in (1, 4))
    assert [loss for loss, _ in one] == pytest.approx([loss for loss, _ in four], rel=1e-4)
    assert [tokens for _, tokens in one] == [len(question.answer) + 1 for question in questions]


def test_loss_of_a_model_that_knows_nothing_is_that_of_guessing(tiny_tokenizer: Any, questions: list[Question]) -> None:
    pytest.importorskip("trl")

    class Blank:
        device = torch.device("cpu")

        class config:
            mask_token_id = 3

        def __call__(self, logits_to_keep: torch.Tensor, **_: Any) -> Any:
            return type("Output", (), {"logits": torch.zeros(int(logits_to_keep.sum()), 260)})

    losses = answer_losses(Blank(), tiny_tokenizer, questions * 100, 0, 100)
    mean = sum(loss for loss, _ in losses) / sum(tokens for _, tokens in losses)
    assert mean == pytest.approx(math.log(259), rel=0.1), "the mask is never guessed"
