"""The tiny random model with the way it is asked."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from conv_dlm.answering.prompting import Prompter
from conv_dlm.evaluation.respondent import Respondent, denoiser


@pytest.fixture(scope="session")
def make_denoiser(tiny_llada: Any, tiny_tokenizer: Any) -> Callable[..., Respondent]:
    """`make_denoiser(steps=4)`: the tiny LLaDA, asked in its chat template for 8 tokens."""

    def make(tokenizer: Any = tiny_tokenizer, **options: Any) -> Respondent:
        options = {"steps": 3, "max_new_tokens": 8} | options
        return denoiser(tiny_llada, tokenizer, Prompter(tokenizer), **options)

    return make


@pytest.fixture
def untemplated(tiny_tokenizer: Any) -> Any:
    """`tiny_tokenizer` without its chat template."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = None
    return tokenizer
