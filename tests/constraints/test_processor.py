"""A constraint in a loop of one's own."""

import random
import re

import pytest
import torch

from conv_dlm.constraints import ImpossibleConstraint, Regex
from conv_dlm.constraints.processor import ConstraintLogitsProcessor

EOS, MASK = 2, 3  # of the tiny tokenizer


def test_any_order_of_drawn_tokens_ends_in_the_language(tiny_tokenizer):
    expressions = ["[0-9]{2}-[a-f]*", "(?:ab|cd)+"]
    processor = ConstraintLogitsProcessor([*map(Regex, expressions), None], tiny_tokenizer, MASK, EOS)
    ids = torch.full((3, 12), MASK)
    torch.manual_seed(0)
    for position in random.Random(0).sample(range(12), 12):
        scores = torch.randn(3, 12, 260)
        scores[..., MASK] = -torch.inf
        allowed = processor(ids, scores)
        assert (allowed[2] == scores[2]).all()
        ids[:, position] = allowed[:, position].softmax(-1).multinomial(1)[:, 0]
    for expression, row in zip(expressions, ids, strict=False):
        assert re.fullmatch(expression, tiny_tokenizer.decode(row, skip_special_tokens=True))


def test_a_canvas_that_cannot_be_completed_is_an_error(tiny_tokenizer):
    processor = ConstraintLogitsProcessor(Regex("a{5}"), tiny_tokenizer, MASK, EOS)
    with pytest.raises(ImpossibleConstraint, match="at least 5 tokens"):
        processor(torch.full((1, 4), MASK), torch.zeros(1, 4, 260))
