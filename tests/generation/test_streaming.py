"""The streamer, seen through a small terminal: what a person would read on the screen after each step."""

import io
import re

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from conv_dlm.generation.streaming import TextDiffusionStreamer
from conv_dlm.generation.terminal import LiveText, char_width

CODE = re.compile(r"\x1b\[\??([0-9]*)([A-Za-z])|([\s\S])")


class Terminal(io.StringIO):
    """The few ANSI codes in use, as xterm has them: deferred wrap, wide characters, scrolling, dim."""

    def __init__(self, columns: int = 40, lines: int = 10, wide: str = "") -> None:
        super().__init__()
        self.wide = wide  # characters that this terminal draws wider than others
        self.columns, self.lines = columns, lines
        self.screen: list[list[tuple[str, bool]]] = [[]]
        self.gone: list[str] = []  # scrolled out at the top
        self.x = self.y = 0
        self.wrap = True
        self.dim = self.hidden = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for match in CODE.finditer(text):
            number, code, char = match.groups()
            if char is None:
                self.command(code, int(number or 0), "?" in match.group())
            elif char == "\r":
                self.x = 0
            elif char == "\n":
                self.newline()
            else:
                assert char >= " " and char != "\x7f", f"control character {char!r} reached the terminal"
                self.put(char)
        return len(text)

    def command(self, code: str, number: int, private: bool) -> None:
        if code == "A":
            self.y = max(self.y - (number or 1), 0)
        elif code in "JK":
            del self.row()[min(self.x, self.columns - 1) :]  # xterm: also a last cell just written
            if code == "J":
                del self.screen[self.y + 1 :]
        elif code == "m":
            self.dim = number == 2
        elif private and number == 7:
            self.wrap = code == "h"
        elif private and number == 25:
            self.hidden = code == "l"
        else:
            raise AssertionError(f"unknown code {code} {number}")

    def row(self) -> list[tuple[str, bool]]:
        while len(self.screen) <= self.y:
            self.screen.append([])
        return self.screen[self.y]

    def newline(self) -> None:
        self.y += 1
        self.row()
        if self.y == self.lines:
            self.gone.append(self.text(self.screen.pop(0)))
            self.y -= 1

    def put(self, char: str) -> None:
        width = 2 if char in self.wide else char_width(char)
        row = self.row()
        if width == 0:
            row[self.x - 1] = (row[self.x - 1][0] + char, self.dim)
            return
        if self.x + width > self.columns:
            if self.wrap:
                self.x = 0
                self.newline()
                row = self.row()
            else:
                self.x = self.columns - width
        row += [(" ", False)] * (self.x + width - len(row))
        row[self.x : self.x + width] = [(char, self.dim), ("", self.dim)][:width]
        self.x += width

    @staticmethod
    def text(row: list[tuple[str, bool]]) -> str:
        return "".join(char for char, _ in row).rstrip()

    def shown(self) -> str:
        """The screen, and above it what scrolled away."""
        return "\n".join([*self.gone, *map(self.text, self.screen)])

    def dimmed(self) -> str:
        return "".join(char for row in self.screen for char, dim in row if dim)

    def resize(self, columns: int, lines: int) -> None:
        """As most terminals do: too long rows are wrapped anew, the cursor stays on its character."""
        rows = []
        for row in self.screen:
            rows += [row[i : i + columns] for i in range(0, max(len(row), 1), columns)]
        self.gone += map(self.text, rows[:-lines])
        self.screen, self.y, self.x = rows[-lines:], min(len(rows), lines) - 1, min(self.x, columns - 1)
        self.columns, self.lines = columns, lines


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(LiveText, "_screen", lambda self: (self.file.columns, self.file.lines))
    monkeypatch.setattr("conv_dlm.generation.streaming._FRAME", 0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return terminal


class Canvas:
    """Plays the part of the loop: decides positions of a text in any order and tells the streamer."""

    def __init__(self, streamer: TextDiffusionStreamer, text: str) -> None:
        self.streamer, self.tokenizer = streamer, streamer.tokenizer
        self.ids = torch.tensor(self.tokenizer(text)["input_ids"])
        self.unmasked = torch.zeros(len(self.ids), dtype=torch.bool)
        self.prefix = 0

    def step(self, *positions: int, guess: str = "x") -> None:
        """Decide `positions`; the candidate is `guess` everywhere else, a mask where that is empty."""
        self.unmasked[list(positions)] = True
        prefix = int(self.unmasked.long().cumprod(0).sum())
        if prefix > self.prefix:
            self.streamer.put(self.ids[self.prefix : prefix])
        self.prefix = prefix
        best = self.tokenizer(guess)["input_ids"][0] if guess else self.tokenizer.mask_token_id
        rest = torch.where(self.unmasked, self.ids, best)[prefix:]
        self.streamer.put_draft(rest, unmasked=self.unmasked[prefix:])


@pytest.fixture
def streamer(terminal: Terminal, tiny_tokenizer: PreTrainedTokenizerFast) -> TextDiffusionStreamer:
    streamer = TextDiffusionStreamer(tiny_tokenizer, skip_prompt=True, file=terminal)
    streamer.put(torch.tensor([[1, 5, 6]]))
    return streamer


def test_decided_plain_drafts_dimmed_in_place(terminal: Terminal, streamer: TextDiffusionStreamer) -> None:
    canvas = Canvas(streamer, "one two")
    canvas.step(4, guess="x")
    assert terminal.shown() == "xxxxtxx"
    assert terminal.dimmed() == "xxxxxx"
    assert terminal.wrap and not terminal.hidden
    canvas.step(0, 1, guess="")
    assert terminal.shown() == "on··t··"
    canvas.step(*range(7))
    assert terminal.dimmed() == ""
    streamer.end()
    assert terminal.shown() == "one two\n"
    assert terminal.x == 0 and terminal.wrap and not terminal.hidden


@pytest.mark.parametrize("columns", [1, 5, 6, 7, 40])
@pytest.mark.parametrize("lines", [2, 3, 4, 30])
@pytest.mark.parametrize(
    "text",
    [
        "a line that is wrapped more than once on a narrow screen",
        "two\nlines\n\nand an empty one, then\n",
        "日本語の文章は幅が二つ、そして é と e\u0301 と 🙂 も",
        "exact",
        "exactly\n" * 20,
    ],
)
def test_nothing_left_over(
    terminal: Terminal, streamer: TextDiffusionStreamer, text: str, columns: int, lines: int
) -> None:
    """Whatever the size, the screen ends as if the text had been printed at once."""
    if columns == 1 and not text.isascii():
        pytest.skip("a wide character needs two columns")
    terminal.columns, terminal.lines = columns, lines
    terminal.write("before\r\n" if columns > 5 else "b\r\n")
    canvas = Canvas(streamer, text)
    order = torch.randperm(len(canvas.ids), generator=torch.Generator().manual_seed(0)).tolist()
    for start in range(0, len(order), 5):
        canvas.step(*order[start : start + 5], guess="漢" if columns > 1 and start % 2 else "y")
    streamer.end()

    expected = Terminal(columns, lines)
    expected.write("before\r\n" if columns > 5 else "b\r\n")
    expected.write(text.replace("\n", "\r\n") + "\r\n")
    assert terminal.shown() == expected.shown()


@pytest.mark.parametrize("columns", [2, 7, 8, 40])
def test_every_drawing_replaces_the_last(terminal: Terminal, streamer: TextDiffusionStreamer, columns: int) -> None:
    text = "some words to decide\nin two lines"
    terminal.columns, terminal.lines = columns, 50
    canvas = Canvas(streamer, text)
    order = torch.randperm(len(text), generator=torch.Generator().manual_seed(1)).tolist()
    for start in range(0, len(order), 4):
        guess = "\nxy"[start // 4 % 3]
        canvas.step(*order[start : start + 4], guess=guess)
        expected = Terminal(columns, 50)
        shown = "".join(char if known else guess for char, known in zip(text, canvas.unmasked, strict=True))
        expected.write(shown.replace("\n", "\r\n"))
        assert terminal.shown() == expected.shown()


def test_terminal_with_other_ideas_of_width(tiny_tokenizer: PreTrainedTokenizerFast, terminal: Terminal) -> None:
    """Where the terminal takes a character for wider than we do, rows are cut short but never multiply."""
    terminal.wide, terminal.columns = "♥", 10
    streamer = TextDiffusionStreamer(tiny_tokenizer, skip_prompt=True, file=terminal)
    streamer.put(torch.tensor([1]))
    canvas = Canvas(streamer, "x ♥♥♥♥♥♥♥♥ y")
    terminal.write("before\r\n")
    for position in range(len(canvas.ids) - 1, -1, -1):
        canvas.step(position)
    streamer.end()
    assert terminal.shown() == "before\nx ♥♥♥♥\n♥♥♥♥ y\n"


def test_final_text_is_wrapped_by_the_terminal(terminal: Terminal, streamer: TextDiffusionStreamer) -> None:
    """A finished line carries no line breaks of ours: it copies and reflows as one line."""
    written: list[str] = []
    terminal.write = lambda text: written.append(text) or len(text)  # type: ignore[method-assign]
    canvas = Canvas(streamer, "x" * 90)
    canvas.step(*range(90))
    streamer.end()
    assert "x" * 90 + "\r\n" in written[-1]


@pytest.mark.parametrize("columns", [25, 60])
@pytest.mark.parametrize("lines", [4, 10, 20])
def test_resize(terminal: Terminal, streamer: TextDiffusionStreamer, columns: int, lines: int) -> None:
    text = "first line\n" + "a second line that is longer than the screen is wide"
    canvas = Canvas(streamer, text)
    terminal.write("before\r\n")
    canvas.step(*range(0, len(text), 2))
    terminal.resize(columns, lines)
    canvas.step(*range(0, len(text), 3))
    canvas.step(*range(len(text)))
    streamer.end()
    expected = Terminal(columns, lines)
    expected.write("before\r\n" + text.replace("\n", "\r\n") + "\r\n")
    assert terminal.shown().endswith(expected.shown().removeprefix("before\n"))
    if lines > 4:  # else the top of the old draft scrolled away, out of reach
        assert terminal.shown() == expected.shown()


def test_draft_taller_than_the_screen(terminal: Terminal, streamer: TextDiffusionStreamer) -> None:
    terminal.lines = 4
    canvas = Canvas(streamer, "a" * 400)
    canvas.step(0, guess="")
    assert terminal.shown().splitlines() == ["a" + "·" * 39, "·" * 40, "… 8 more rows"]
    canvas.step(*range(390), guess="")
    assert not any("·" in row for row in terminal.gone)
    assert terminal.shown() == "\n".join(["a" * 40] * 9 + ["a" * 30 + "·" * 10])


def test_no_color_means_no_style(
    terminal: Terminal, streamer: TextDiffusionStreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    Canvas(streamer, "one two").step(4, guess="x")
    assert terminal.shown() == "····t··"  # guesses would pass for text
    assert terminal.dimmed() == ""


def test_special_tokens_are_not_shown(terminal: Terminal, streamer: TextDiffusionStreamer) -> None:
    canvas = Canvas(streamer, "one<|end|>")
    canvas.step(0, 3, guess="<|endoftext|>")
    assert terminal.shown() == "o··"
    canvas.step(1, 2)
    streamer.end()
    assert terminal.shown() == "one\n"


def test_control_characters_are_shown_not_obeyed(terminal: Terminal, streamer: TextDiffusionStreamer) -> None:
    canvas = Canvas(streamer, "a\tb\x1b[2Jc\x07\x9b\r\nd")
    canvas.step(0, 1, 6)
    canvas.step(*range(len(canvas.ids)))
    streamer.end()
    assert terminal.shown() == "a    b\ufffd[2Jc\ufffd\ufffd\nd\n"


def test_prompt_with_gaps_is_shown_from_its_beginning(
    terminal: Terminal, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    streamer = TextDiffusionStreamer(tiny_tokenizer, skip_prompt=True, file=terminal)
    streamer.put(torch.tensor([tiny_tokenizer("it <|mask|><|mask|> so")["input_ids"]]))
    assert terminal.shown() == "it"
    rest = torch.tensor(tiny_tokenizer("a<|mask|> so")["input_ids"])
    streamer.put_draft(rest, torch.tensor([0, 0, 1, 1, 1]) > 0)
    assert terminal.shown() == "it a· so"
    assert terminal.dimmed() == "a·"


def test_abort_keeps_what_was_decided(
    terminal: Terminal, streamer: TextDiffusionStreamer, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    streamer.abort()
    assert terminal.shown() == ""  # nothing had been shown: nothing to end
    streamer.put(torch.tensor([1]))
    Canvas(streamer, "abcdef").step(0, 1, 4)
    streamer.abort()
    assert terminal.shown() == "ab\n"


def test_second_generation_starts_afresh(terminal: Terminal, streamer: TextDiffusionStreamer) -> None:
    for prompt in (None, torch.tensor([7, 8])):
        if prompt is not None:
            streamer.put(prompt)
        Canvas(streamer, "so\nyes").step(*range(6))
        streamer.end()
    assert terminal.shown() == "so\nyes\n" * 2


def test_without_drafts(terminal: Terminal, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """A model that writes from left to right is shown token by token."""
    streamer = TextDiffusionStreamer(tiny_tokenizer, file=terminal)
    streamer.put(torch.tensor([tiny_tokenizer("ab")["input_ids"]]))
    for index, shown in zip(tiny_tokenizer("cé")["input_ids"], ("abc", "abc", "abcé"), strict=True):
        streamer.put(torch.tensor([index]))
        assert terminal.shown() == shown  # never half a character


def test_drawing_is_limited_but_the_end_is_drawn(
    terminal: Terminal, streamer: TextDiffusionStreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conv_dlm.generation.streaming._FRAME", 3600)
    canvas = Canvas(streamer, "abc")
    canvas.step(1)
    canvas.step(2)
    assert terminal.shown() == "xbx"
    canvas.step(0)
    streamer.end()
    assert terminal.shown() == "abc\n"


def test_what_is_drawn_is_the_draft_of_the_step(
    terminal: Terminal, streamer: TextDiffusionStreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens that a step commits don't cost the drawing of its draft."""
    clock = [0.0]
    monkeypatch.setattr("conv_dlm.generation.streaming._FRAME", 1)
    monkeypatch.setattr("conv_dlm.generation.streaming.time.monotonic", lambda: clock[0])
    canvas = Canvas(streamer, "abc")
    for position, shown in enumerate(("axx", "aby", "abc")):
        clock[0] += 2
        canvas.step(position, guess="xyz"[position])
        assert terminal.shown() == shown


@pytest.mark.parametrize("dumb", [False, True])
def test_pipe_gets_plain_final_text(
    tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, dumb: bool
) -> None:
    monkeypatch.setenv("TERM", "dumb" if dumb else "xterm")
    pipe = Terminal() if dumb else io.StringIO()
    written: list[str] = []
    pipe.write = lambda text: written.append(text) or len(text)  # type: ignore[method-assign]
    streamer = TextDiffusionStreamer(tiny_tokenizer, skip_prompt=True, file=pipe)
    streamer.put(torch.tensor([[1, 5, 6]]))
    streamer.abort()
    streamer.put(torch.tensor([[1, 5, 6]]))
    canvas = Canvas(streamer, "one two\nthree<|end|><|endoftext|>")
    canvas.step(2, 3, 4)
    canvas.step(0, 1)
    canvas.step(*range(len(canvas.ids)))
    streamer.end()
    assert "".join(written) == "one two\nthree\n"


def test_a_batch_is_refused(streamer: TextDiffusionStreamer) -> None:
    with pytest.raises(ValueError, match="one row, not a batch of 2"):
        streamer.put_draft(torch.zeros(2, 3, dtype=torch.long))


def test_leading_spaces_survive_tokenizers_that_drop_them(terminal: Terminal) -> None:
    """SentencePiece-like tokenizers decode a lone piece without its leading space."""
    from tokenizers import Tokenizer, decoders, models

    vocabulary = {"<s>": 0, "▁a": 1, "▁b": 2, "▁c": 3, "[M]": 4}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<s>"))
    backend.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", mask_token="[M]")
    streamer = TextDiffusionStreamer(tokenizer, skip_prompt=True, file=terminal)
    streamer.put(torch.tensor([0]))
    streamer.put_draft(torch.tensor([1, 2, 4, 3, 2]), torch.tensor([1, 0, 0, 1, 0]) > 0)
    assert terminal.shown() == "a b· c b"
