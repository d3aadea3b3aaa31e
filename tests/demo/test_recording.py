"""A recording has a frame for each step, with the canvas as `generate` knows it."""

from threading import Event
from typing import Any

import pytest
import torch

from conv_dlm.demo.recording import GIVEN, MASKED, NO_GUESS, Frame, Recording
from conv_dlm.generation import DECODE_TYPES, UNMASKING_RULES

SETTLED = [
    name
    for name, parts in DECODE_TYPES.items()
    if not (rule := UNMASKING_RULES[parts.rule]).remasks and not rule.reads_end and rule.is_alone()
]
SMALL = {"kernel_size": 4, "block_length": 4, "steps": 8}


def options(decode_type: str) -> dict[str, Any]:
    fields = DECODE_TYPES[decode_type].fields
    return {"decode_type": decode_type, **{name: value for name, value in SMALL.items() if name in fields}}


def as_ids(frame: Frame) -> torch.Tensor:
    """What a history has: masks where undecided."""
    return frame.ids.masked_fill(frame.since == MASKED, 3)


@pytest.mark.parametrize("decode_type", SETTLED)
def test_frames_are_the_history(record: Any, decode_type: str) -> None:
    """Frame n + 1 is the canvas after step n, and knows which tokens that step decided."""
    recording, output = record(**options(decode_type), eos_token_id=None)
    history = output.history[:, 0, -12:]
    assert recording.steps == len(history) - 1 > 1
    for frame, ids in zip(recording.frames, history, strict=True):
        assert as_ids(frame).tolist() == ids.tolist()
    assert recording.frames[-1].since.tolist() == (output.unmasked_at[0, -12:] + 1).tolist()


@pytest.mark.parametrize("decode_type", ["remdm", "remdm_conv"])
def test_tokens_that_are_masked_again(record: Any, decode_type: str) -> None:
    recording, output = record(**options(decode_type) | {"steps": 40}, eta=0.1, alpha_on=0.9, eos_token_id=None)
    shown = [as_ids(frame).tolist() for frame in recording.frames]
    history = output.history[:, 0, -12:].tolist()
    assert any(decided and not still for a, b in zip(recording.frames, recording.frames[1:], strict=False)
               for decided, still in zip(a.since >= 0, b.since >= 0, strict=True))  # fmt: skip
    assert shown[0] == history[0] and shown[-1] == history[-1]
    assert all(ids in history for ids in shown)


def test_guesses(record: Any) -> None:
    """The model is asked within the reach of the kernel, 2 positions here, and there only."""
    recording, _ = record(**options("conv"))
    assert (recording.frames[0].ids == NO_GUESS).all()
    ids, since, _ = recording.frames[1]
    assert ((ids == NO_GUESS) <= (since == MASKED)).all() and (ids[2:] == NO_GUESS).all()
    recording, _ = record(**options("topk"))
    assert (recording.frames[1].since == MASKED).any() and (recording.frames[1].ids >= 0).all()


def test_the_text_ends_with_its_end_token(record: Any) -> None:
    full, _ = record(**options("conv"), eos_token_id=None)
    eos = int(full.frames[-1].ids[6])  # the same run, in which this token ends the text
    recording, output = record(**options("conv"), eos_token_id=eos, pad_token_id=0)
    last = recording.frames[-1]
    assert last.end < 12 and int(last.ids[last.end - 1]) == eos
    assert last.ids[: last.end].tolist() == output.sequences[0, -12:][: last.end].tolist()
    assert [frame.end for frame in recording.frames][:1] == [12]


def test_gaps_of_the_prompt_are_part_of_the_canvas(record: Any, inputs: Any) -> None:
    ids = inputs["input_ids"].clone()
    ids[0, 3:5] = 3
    recording, output = record(ids, **options("conv"), eos_token_id=None)
    first, last = recording.frames[0], recording.frames[-1]
    assert first.since.tolist() == [MASKED] * 2 + [GIVEN] * (ids.shape[1] - 5) + [MASKED] * 12
    assert last.ids.tolist() == output.sequences[0, 3:].tolist()


def test_frames_do_not_change(record: Any) -> None:
    recording, _ = record(**options("conv"), eos_token_id=None)
    decided = [int((frame.since >= 0).sum()) for frame in recording.frames]
    assert decided == sorted(decided) and (decided[0], decided[-1]) == (0, 12)
    assert (recording.frames[0].ids == NO_GUESS).all()


def test_stop_leaves_generate(tiny_llada: Any, inputs: Any) -> None:
    stop = Event()

    class Impatient(Recording):
        def put_draft(self, *args: Any, **kwargs: Any) -> None:
            super().put_draft(*args, **kwargs)
            stop.set()

    recording = Impatient(12, 3)
    settings = options("conv") | {"max_new_tokens": 12}
    tiny_llada.generate(**inputs, streamer=recording, callback_on_step_end=lambda _: stop.is_set(), **settings)
    assert recording.steps == 1
