"""Runs to draw, without a page."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import BatchEncoding

from conv_dlm.demo.recording import Recording

Record = Callable[..., tuple[Recording, Any]]


@pytest.fixture(scope="session")
def inputs(tiny_tokenizer: Any) -> BatchEncoding:
    return tiny_tokenizer("2 + 3 is", return_tensors="pt")


@pytest.fixture
def record(tiny_llada: Any, inputs: BatchEncoding) -> Record:
    """`record(decode_type=..., ...)`: a recording of 12 positions, and what `generate` returned."""

    def record(input_ids: torch.Tensor | None = None, **options: Any) -> tuple[Recording, Any]:
        recording = Recording(12, mask_token_id=3)
        output = tiny_llada.generate(
            inputs["input_ids"] if input_ids is None else input_ids,
            streamer=recording,
            max_new_tokens=12,
            return_dict_in_generate=True,
            output_history=True,
            generator=torch.Generator().manual_seed(1),
            **options,
        )
        return recording, output

    return record


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> int:
    """So many steps that a run doesn't end by itself before a test gives up, for each takes longer than the last."""
    put_draft = Recording.put_draft

    def wait(recording: Recording, *args: Any, **kwargs: Any) -> None:
        time.sleep(min(0.01 * recording.steps, 2))
        put_draft(recording, *args, **kwargs)

    monkeypatch.setattr(Recording, "put_draft", wait)
    return 512
