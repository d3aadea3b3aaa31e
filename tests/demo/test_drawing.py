"""Frames as HTML: every token once, escaped, in the colour of its step."""

import html
import re
from itertools import pairwise
from typing import Any

import pytest
import torch

from conv_dlm.demo.colours import RAMP, letter_colour, luminance, step_colour
from conv_dlm.demo.drawing import canvas
from conv_dlm.demo.pieces import Pieces
from conv_dlm.demo.plot import Scale, plot
from conv_dlm.demo.recording import GIVEN, MASKED, NO_GUESS, Frame


@pytest.fixture(scope="module")
def pieces(tiny_tokenizer: Any) -> Pieces:
    return Pieces(tiny_tokenizer)


def frame_of(tokenizer: Any, text: str, since: list[int] | int) -> Frame:
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    steps = torch.tensor([since] * len(ids) if isinstance(since, int) else since)
    return Frame(ids, steps, len(ids))


def text_of(drawn: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", drawn))


def test_text_is_escaped(tiny_tokenizer: Any, pieces: Pieces) -> None:
    drawn = canvas(frame_of(tiny_tokenizer, '<b onclick="x">&', 1), 1, 1, pieces)
    assert text_of(drawn) == '<b onclick="x">&'
    assert "<b" not in drawn and "&lt;" in drawn and "&amp;" in drawn


def test_guesses_are_escaped(tiny_tokenizer: Any, pieces: Pieces) -> None:
    drawn = canvas(frame_of(tiny_tokenizer, '">', MASKED), 1, 1, pieces)
    assert re.findall('title="(.*?)"', drawn) == ["&quot;", "&gt;"]
    assert text_of(drawn) == "··"


def test_guesses_are_reached_by_the_keyboard(tiny_tokenizer: Any, pieces: Pieces) -> None:
    assert canvas(frame_of(tiny_tokenizer, "a", MASKED), 1, 1, pieces).count('tabindex="0"') == 1


def test_where_there_is_no_guess_there_is_a_dot(pieces: Pieces) -> None:
    frame = Frame(torch.tensor([NO_GUESS]), torch.tensor([MASKED]), 1)
    assert canvas(frame, 1, 1, pieces) == '<span class="open">·</span>'


def test_white_space_and_line_breaks(tiny_tokenizer: Any, pieces: Pieces) -> None:
    drawn = canvas(frame_of(tiny_tokenizer, "a  b\n c", 1), 1, 1, pieces)
    assert text_of(drawn).replace("↵", "") == "a  b\n c"
    assert drawn.count("↵") == 1


def test_special_tokens_are_a_sign(tiny_tokenizer: Any, pieces: Pieces) -> None:
    drawn = canvas(frame_of(tiny_tokenizer, "a<|end|>", 2), 3, 4, pieces)
    assert text_of(drawn) == "a∎"
    assert 'title="step 2: &lt;|end|&gt;"' in drawn


def test_bytes_of_one_character_are_drawn_together(tiny_tokenizer: Any, pieces: Pieces) -> None:
    """€ has three bytes, each a token here; with one of them undecided there is no character yet."""
    whole = canvas(frame_of(tiny_tokenizer, "1€", [1, 2, 4, 3]), 4, 4, pieces)
    assert text_of(whole) == "1€" and 'title="step 4"' in whole and "new" in whole
    assert "€" not in canvas(frame_of(tiny_tokenizer, "1€", [1, 2, MASKED, 3]), 4, 4, pieces)


def test_what_the_step_decided_stands_out(tiny_tokenizer: Any, pieces: Pieces) -> None:
    drawn = canvas(frame_of(tiny_tokenizer, "abc", [1, 2, GIVEN]), 2, 4, pieces)
    assert re.findall('class="(.*?)"', drawn) == ["token", "token new", "given"]
    assert drawn.count("background") == 2


def test_nothing_is_drawn_behind_the_end(tiny_tokenizer: Any, pieces: Pieces) -> None:
    frame = frame_of(tiny_tokenizer, "abcd", 1)._replace(end=2)
    assert text_of(canvas(frame, 1, 1, pieces)) == "ab"


def test_a_whole_run(record: Any, tiny_tokenizer: Any, pieces: Pieces) -> None:
    """In the last frame the text is what the tokenizer decodes."""
    recording, output = record(decode_type="conv", kernel_size=4, steps=8, eos_token_id=None)
    ids = [index for index in output.sequences[0, -12:].tolist() if pieces.special(index) is None]
    drawn = canvas(recording.frames[-1], 8, 8, pieces)
    assert text_of(drawn).replace("↵", "").replace("∎", "") == tiny_tokenizer.decode(ids)


def test_colours_are_ordered_in_grey() -> None:
    lights = [luminance(step_colour(step, 60)) for step in range(1, 61)]
    assert all(a > b for a, b in pairwise(lights))
    assert (step_colour(1, 60), step_colour(60, 60)) == (RAMP[0], RAMP[-1])
    assert step_colour(1, 1) == RAMP[0]


def test_letters_are_legible_on_all_colours() -> None:
    for step in range(1, 101):
        ground = step_colour(step, 100)
        lights = sorted((luminance(ground), luminance(letter_colour(ground))))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5


def test_the_plot_has_a_dot_for_each_decided_position() -> None:
    since = torch.tensor([1, 3, 2, MASKED, GIVEN, 2])
    drawn = plot(Frame(torch.zeros(6), since, 5), 4, 2)
    dots = re.findall(r'<circle class="(.*?)" cx="(.*?)" cy="(.*?)"', drawn)
    assert [kind for kind, _, _ in dots] == ["dot", "dot later", "dot", "dot behind"]
    across, up = ([float(dot[place]) for dot in dots] for place in (1, 2))
    assert across[0] < across[2] == across[3] < across[1]
    assert up[0] > up[1] > up[2] > up[3]  # the first position is at the bottom


@pytest.mark.parametrize(
    ("last", "ticks"),
    [(1, [1]), (3, [1, 2, 3]), (10, [1, 4, 6, 8, 10]), (40, [1, 10, 20, 30, 40]), (64, [1, 20, 40, 60])],
)
def test_ticks(last: int, ticks: list[int]) -> None:
    assert Scale(1, last, 0, 100).ticks() == ticks
