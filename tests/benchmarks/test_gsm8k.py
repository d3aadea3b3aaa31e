"""The benchmarks' GSM8K: questions, and the loss on their answers."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gsm8k import answer_losses, load_questions


@pytest.fixture(scope="module")
def questions_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "test.jsonl"
    with path.open("w") as file:
        for i in range(1, 5):
            row = {"question": f"What is {i} + {'1' * i}?", "answer": f"It is <<{i}+1={i + 1}>>\n#### {i + 1}"}
            file.write(json.dumps(row) + "\n")
    return path


def test_too_few_questions_are_refused(tiny_tokenizer: Any, questions_file: Path) -> None:
    with pytest.raises(ValueError, match="only 4"):
        load_questions(tiny_tokenizer, 5, questions_file)


def test_losses_do_not_depend_on_the_batch(tiny_llada: Any, tiny_tokenizer: Any, questions_file: Path) -> None:
    pytest.importorskip("trl")
    questions = load_questions(tiny_tokenizer, 4, questions_file)
    one, four = (answer_losses(tiny_llada, tiny_tokenizer, questions, 0, size) for size in (1, 4))
    assert [loss for loss, _ in one] == pytest.approx([loss for loss, _ in four], rel=1e-4)
    assert [tokens for _, tokens in one] == [len(question.answer) + 1 for question in questions]


def test_loss_of_a_model_that_knows_nothing_is_that_of_guessing(tiny_tokenizer: Any, questions_file: Path) -> None:
    pytest.importorskip("trl")

    class Blank:
        device = torch.device("cpu")

        class config:
            mask_token_id = 3

        def __call__(self, logits_to_keep: torch.Tensor, **_: Any) -> Any:
            return type("Output", (), {"logits": torch.zeros(int(logits_to_keep.sum()), 260)})

    questions = load_questions(tiny_tokenizer, 4, questions_file) * 100
    losses = answer_losses(Blank(), tiny_tokenizer, questions, 0, 100)
    mean = sum(loss for loss, _ in losses) / sum(tokens for _, tokens in losses)
    assert mean == pytest.approx(math.log(259), rel=0.1), "the mask is never guessed"
