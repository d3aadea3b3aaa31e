"""Corruption rules of R2FT: what the model sees, and the repetition that it should learn to reject.

A rule masks a part of a clean text x_0 and fills it with a repeated phrase of its context, like a model that suffers
from its long decoding window. One forward pass on the masked text gives both log-probabilities: of the clean tokens
(chosen) and of the repetition (rejected). The choices are drawn again in every step. Source: arXiv 2509.15188,
algorithm 1 (`repeat`); the other rules are those of its released code. Three things differ from that code: spans beyond
the canvas are clamped, phrases are no longer than what stands before the cut, and at probability 0 no EOS is placed.

Every rule is two pure functions without loops over rows: one maps uniform draws to the rule's choices, one applies the
choices. Shapes: B rows, L positions, N draws. Positions count from 0, intervals are half open.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conv_dlm.generation.settings import Part, Registry, Setting, setting

MIN_SPAN = 30  # tokens; the shortest repetition of `repeat`
MARGIN = 5  # tokens at each end of a text in which `in_mask_repeat` and `out_mask_repeat` set no boundary
MAX_EXTENSION = 30  # tokens by which `naive` may run over the response's end, exclusive


@dataclass(frozen=True)
class Examples:
    """Clean rows, padded at the right to the longest.

    Attributes:
        ids_BL (`LongTensor` [B, L]): x_0: prompt, response, its EOS, and the EOS that fill the canvas.
        response_BL (`BoolTensor` [B, L]): the response and its EOS: the tokens that `log p` of the clean text counts.
        start_B (`LongTensor` [B]): first position of the response; 0 for plain text.
        end_B (`LongTensor` [B]): position of the response's first EOS; the length where it has none.
        length_B (`LongTensor` [B]): end of the canvas.
    """

    ids_BL: Tensor
    response_BL: Tensor
    start_B: Tensor
    end_B: Tensor
    length_B: Tensor

    @property
    def positions_L(self) -> Tensor:
        return torch.arange(self.ids_BL.shape[1], device=self.ids_BL.device)

    def within(self, start_B: Tensor, end_B: Tensor) -> Tensor:
        """`BoolTensor` [B, L]: the positions from `start_B` up to `end_B`, exclusive."""
        return (self.positions_L >= start_B[:, None]) & (self.positions_L < end_B[:, None])


@dataclass(frozen=True)
class Corruption:
    """The result of a rule.

    Attributes:
        masked_BL (`BoolTensor` [B, L]): positions that the model sees as masks.
        rejected_BL (`LongTensor` [B, L]): x_b: the repetition where `rejects_BL`, anything elsewhere.
        rejects_BL (`BoolTensor` [B, L]): masked positions whose repeated token counts in `log p` of the rejected.
        chooses_BL (`BoolTensor` [B, L]): positions whose clean token counts in `log p` of the chosen; unmasked ones
            among them add 0, but count in the denominator.
        chosen_count_B, rejected_count_B (`LongTensor` [B]): the denominators of the two log-probabilities.
    """

    masked_BL: Tensor
    rejected_BL: Tensor
    rejects_BL: Tensor
    chooses_BL: Tensor
    chosen_count_B: Tensor
    rejected_count_B: Tensor

    @property
    def chosen_BL(self) -> Tensor:
        """`BoolTensor` [B, L]: the masked positions whose clean token counts."""
        return self.chooses_BL & self.masked_BL

    @property
    def needed_BL(self) -> Tensor:
        """`BoolTensor` [B, L]: the positions that either log-probability needs from the model."""
        return self.chosen_BL | self.rejects_BL


Draw = Callable[[int], Tensor]  # n -> n uniform draws for each row, FloatTensor [B, n] in [0, 1), the same in each call


@dataclass(frozen=True)
class CorruptionRule(Part):
    """Base of all rules: a frozen dataclass with its settings.

    Attributes:
        fills_canvas: whether the repetition may run over the end of the response, into EOS padding.
        both_sides: whether text is masked on both sides of the repetition; an autoregressive model sees only one side.
    """

    fills_canvas: ClassVar[bool] = False
    both_sides: ClassVar[bool] = False

    def __call__(self, examples: Examples, draw: Draw, eos_token_id: int) -> Corruption:
        """Corrupt a batch."""
        raise NotImplementedError

    def complaint(self, start: int, end: int, length: int) -> str | None:
        """Why the rule can't take a row with these bounds, or `None`; checked once, before training."""
        return None


SETTINGS: dict[str, Setting] = {}  # of all rules, by name
CORRUPTIONS: Registry[type[CorruptionRule]] = Registry("corruption rule", SETTINGS, reserved=())


def integers(uniform_B: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
    """Map draws from [0, 1) to integers from `low` to `high`, exclusive; `low` where there is none."""
    return low + (uniform_B.double() * (high - low)).long().clamp(min=0)


def _two_different(uniform_BN: Tensor, low: int, high_B: Tensor) -> tuple[Tensor, Tensor]:
    """Two different integers from `low` to `high_B`, exclusive, the smaller first."""
    first_B = integers(uniform_BN[:, 0], low, high_B)
    second_B = integers(uniform_BN[:, 1], low, high_B - 1)
    second_B = second_B + (second_B >= first_B).long()
    return torch.minimum(first_B, second_B), torch.maximum(first_B, second_B)


def _repetition(examples: Examples, phrase_start_B: Tensor, phrase_B: Tensor, shift_B: Tensor) -> Tensor:
    """Rows that repeat `x_0[phrase_start : phrase_start + phrase]` throughout; phases are position plus shift."""
    index_BL = phrase_start_B[:, None] + (examples.positions_L + shift_B[:, None]) % phrase_B[:, None]
    return examples.ids_BL.gather(1, index_BL)


def _of_response(examples: Examples, masked_BL: Tensor, rejected_BL: Tensor, rejects_BL: Tensor) -> Corruption:
    """Each log-probability has its own denominator: the response's length, and that of the repetition."""
    counts = examples.response_BL.sum(1), rejects_BL.sum(1)
    return Corruption(masked_BL, rejected_BL, rejects_BL, examples.response_BL, *counts)


# repeat: algorithm 1


@dataclass(frozen=True)
class RepeatChoices:
    """cut c, phrase length g, span z, shift d and the position of the EOS (-1: none), each `LongTensor` [B]."""

    cut_B: Tensor
    phrase_B: Tensor
    span_B: Tensor
    shift_B: Tensor
    eos_at_B: Tensor


def repeat_end(examples: Examples, cut_B: Tensor, span_B: Tensor, longer_than_x0: bool) -> Tensor:
    """End of the repetition: cut plus span, clamped to the canvas, and behind the response if asked."""
    end_B = torch.minimum(cut_B + span_B, examples.length_B)
    return torch.maximum(end_B, examples.end_B) if longer_than_x0 else end_B


@CORRUPTIONS.register("repeat")
@dataclass(frozen=True)
class Repeat(CorruptionRule):
    """Algorithm 1 of arXiv 2509.15188: from a cut within the response on everything is masked, and the phrase before it
    repeated over a span."""

    eos_p: float = setting(
        1.0, "probability that the repetition holds an EOS, at a random place", low=0, high=1,
        source="its released code",
    )  # fmt: skip
    max_z: int = setting(
        50, f"repetitions are {MIN_SPAN} to max_z - 1 tokens long", low=MIN_SPAN + 1, source="its released code"
    )
    max_phrase_length: int = setting(14, "longest repeated phrase, in tokens", low=1, source="its released code")
    repeat_longer_than_x0: bool = setting(
        True, "let a repetition that ends before the response run on to its end", source="its released code"
    )
    fills_canvas = True

    def __call__(self, examples: Examples, draw: Draw, eos_token_id: int) -> Corruption:
        choices = choose_repeat(examples, draw(6), self)
        return repeat(examples, choices, eos_token_id=eos_token_id, longer_than_x0=self.repeat_longer_than_x0)

    def complaint(self, start: int, end: int, length: int) -> str | None:
        return _no_response(start, end)


def choose_repeat(examples: Examples, uniform_BN: Tensor, args: Repeat) -> RepeatChoices:
    """Six draws a row (N = 6): cut within the response, phrase, span, shift, whether there is an EOS, and where."""
    cut_B = integers(uniform_BN[:, 0], examples.start_B.clamp(min=1), examples.end_B)
    phrase_B = integers(uniform_BN[:, 1], 1, cut_B.clamp(max=args.max_phrase_length) + 1)
    span_B = integers(uniform_BN[:, 2], torch.full_like(cut_B, MIN_SPAN), args.max_z)
    end_B = repeat_end(examples, cut_B, span_B, args.repeat_longer_than_x0)
    eos_at_B = integers(uniform_BN[:, 5], cut_B, end_B - 1)
    has_eos_B = (uniform_BN[:, 4] < args.eos_p) & (end_B - cut_B > 1)
    return RepeatChoices(
        cut_B=cut_B,
        phrase_B=phrase_B,
        span_B=span_B,
        shift_B=integers(uniform_BN[:, 3], 0, phrase_B),
        eos_at_B=eos_at_B.where(has_eos_B, -1),
    )


def repeat(examples: Examples, choices: RepeatChoices, *, eos_token_id: int, longer_than_x0: bool) -> Corruption:
    """Algorithm 1: from the cut on everything is masked, and the phrase before the cut repeated over the span.

    Raises:
        ValueError: a phrase longer than what stands before the cut.
    """
    too_long_B = choices.phrase_B > choices.cut_B
    if too_long_B.any():
        row = int(too_long_B.nonzero()[0])
        raise ValueError(
            f"`phrase_B[{row}]={int(choices.phrase_B[row])}` is longer than what stands before the cut at "
            f"{int(choices.cut_B[row])}; draw it from 1 to the cut."
        )
    rejected_BL = _repetition(examples, choices.cut_B - choices.phrase_B, choices.phrase_B, choices.shift_B)
    rejected_BL = rejected_BL.masked_fill(examples.positions_L == choices.eos_at_B[:, None], eos_token_id)
    end_B = repeat_end(examples, choices.cut_B, choices.span_B, longer_than_x0)
    masked_BL = examples.within(choices.cut_B, examples.length_B)
    return _of_response(examples, masked_BL, rejected_BL, examples.within(choices.cut_B, end_B))


def _no_response(start: int, end: int) -> str | None:
    if end <= max(start, 1):
        return "its response is empty, so there is nothing to cut"
    return None


# naive: a phrase of the prompt over a response that is masked as a whole


@dataclass(frozen=True)
class NaiveChoices:
    """The phrase `x_0[start:end]` of the prompt, its shift, and by how much it runs over the response's end."""

    phrase_start_B: Tensor
    phrase_end_B: Tensor
    shift_B: Tensor
    extension_B: Tensor


def choose_naive(examples: Examples, uniform_BN: Tensor) -> NaiveChoices:
    """Four draws a row (N = 4): the two ends of the phrase, shift, extension."""
    start_B, end_B = _two_different(uniform_BN, 1, examples.start_B + 1)
    room_B = examples.length_B - examples.end_B
    extension_B = integers(uniform_BN[:, 3], 0, room_B.clamp(max=MAX_EXTENSION)).clamp(min=1)
    return NaiveChoices(
        start_B, end_B, integers(uniform_BN[:, 2], 0, end_B - start_B), torch.minimum(extension_B, room_B)
    )


def naive(examples: Examples, choices: NaiveChoices) -> Corruption:
    """The whole response is masked; a phrase of the prompt is repeated over it and a little beyond."""
    phrase_B = choices.phrase_end_B - choices.phrase_start_B
    rejected_BL = _repetition(examples, choices.phrase_start_B, phrase_B, choices.shift_B)
    masked_BL = examples.within(examples.start_B, examples.length_B)
    rejects_BL = examples.within(examples.start_B, examples.end_B + choices.extension_B)
    return _of_response(examples, masked_BL, rejected_BL, rejects_BL)


@CORRUPTIONS.register("naive")
@dataclass(frozen=True)
class Naive(CorruptionRule):
    """The whole response is masked, and a phrase of the prompt repeated over it."""

    fills_canvas = True

    def __call__(self, examples: Examples, draw: Draw, eos_token_id: int) -> Corruption:
        return naive(examples, choose_naive(examples, draw(4)))

    def complaint(self, start: int, end: int, length: int) -> str | None:
        if start < 2:
            return f"its prompt has {start} tokens, too few to hold a phrase; it needs 2"
        return _no_response(start, end)


# in_mask_repeat and out_mask_repeat: text without prompts


@dataclass(frozen=True)
class HoleChoices:
    """A hole [left, right) in a text, and the phrases at its sides.

    Attributes:
        left_B, right_B (`LongTensor` [B]): the hole's ends.
        inside_B (`BoolTensor` [B]): the hole itself is masked (in-mask), or everything around it (out-mask).
        from_left_B (`BoolTensor` [B]): in-mask: the phrase is taken from the hole's left side, else from its right.
        phrase_B (`LongTensor` [B, 2]): length of the phrase at the left and at the right.
        shift_B (`LongTensor` [B, 2]): their shifts; out-mask only.
    """

    left_B: Tensor
    right_B: Tensor
    inside_B: Tensor
    from_left_B: Tensor
    phrase_B: Tensor
    shift_B: Tensor


def choose_hole(examples: Examples, uniform_BN: Tensor, max_phrase_length: int, inside_share: float) -> HoleChoices:
    """Eight draws a row (N = 8): the hole's two ends, which side is masked, the phrase's side, phrases and shifts."""
    left_B, right_B = _two_different(uniform_BN, MARGIN, examples.length_B - MARGIN)
    inside_B = uniform_BN[:, 2] < inside_share
    # Inside, the outermost token is no part of a phrase. Outside, a phrase is a part of the hole.
    room_B2 = torch.stack([left_B, examples.length_B - right_B], 1) - inside_B[:, None].long()
    longest_B2 = torch.minimum(room_B2, (right_B - left_B)[:, None]).clamp(max=max_phrase_length)
    phrase_B2 = integers(uniform_BN[:, 4:6], 1, longest_B2 + 1)
    return HoleChoices(
        left_B, right_B, inside_B, uniform_BN[:, 3] < 0.5, phrase_B2, integers(uniform_BN[:, 6:8], 0, phrase_B2)
    )


def hole_repeat(examples: Examples, choices: HoleChoices, *, over_sequence: bool) -> Corruption:
    """Fill the masked side of the hole's boundary with a phrase from the visible side.

    In-mask: the hole repeats the tokens next to it. Out-mask: the left part repeats the hole's first tokens, the right
    part its last; the outermost tokens are masked and count as chosen, not as rejected.

    Args:
        over_sequence: both denominators are the length of the text, else the number of masks.
    """
    left_phrase_B, right_phrase_B = choices.phrase_B.unbind(1)
    left_shift_B, right_shift_B = choices.shift_B.masked_fill(choices.inside_B[:, None], 0).unbind(1)
    # The phrase ends at the boundary in the text that is visible: around the hole, or within it.
    left_start_B = choices.left_B - left_phrase_B * choices.inside_B
    right_start_B = choices.right_B - right_phrase_B * ~choices.inside_B
    left_BL = _repetition(examples, left_start_B, left_phrase_B, left_shift_B)
    right_BL = _repetition(examples, right_start_B, right_phrase_B, right_shift_B)
    inside_B1 = choices.inside_B[:, None]
    from_left_BL = choices.from_left_B[:, None].where(inside_B1, examples.positions_L < choices.left_B[:, None])
    rejected_BL = left_BL.where(from_left_BL, right_BL)

    text_BL = examples.within(torch.zeros_like(examples.length_B), examples.length_B)
    hole_BL = examples.within(choices.left_B, choices.right_B)
    masked_BL = hole_BL.where(inside_B1, text_BL & ~hole_BL)
    inner_BL = examples.within(torch.ones_like(examples.length_B), examples.length_B - 1)
    count_B = examples.length_B if over_sequence else masked_BL.sum(1)
    return Corruption(masked_BL, rejected_BL, masked_BL & inner_BL, masked_BL, count_B, count_B)


@dataclass(frozen=True)
class HoleRule(CorruptionRule):
    """Base of the rules for plain text. A rule says how often the hole is masked rather than the text around it."""

    max_phrase_length: int = setting(14, "longest repeated phrase, in tokens", low=1, source="its released code")
    denominator: str = setting(
        "mask_len", "what log-probabilities of plain text are divided by: the number of masks, or the text's length",
        choices=("mask_len", "seq_len"), source="its released code",
    )  # fmt: skip
    inside_share: ClassVar[float]
    both_sides = True

    def __call__(self, examples: Examples, draw: Draw, eos_token_id: int) -> Corruption:
        choices = choose_hole(examples, draw(8), self.max_phrase_length, self.inside_share)
        return hole_repeat(examples, choices, over_sequence=self.denominator == "seq_len")

    def complaint(self, start: int, end: int, length: int) -> str | None:
        shortest = 2 * MARGIN + 2
        return f"its {length} tokens leave no room for a hole; it needs {shortest}" if length < shortest else None


@CORRUPTIONS.register("in_mask_repeat")
@dataclass(frozen=True)
class InMaskRepeat(HoleRule):
    """A gap in the text is masked, and filled with a phrase next to it."""

    inside_share = 1.0


@CORRUPTIONS.register("out_mask_repeat")
@dataclass(frozen=True)
class OutMaskRepeat(HoleRule):
    """Everything but a span is masked, and filled with that span's phrases."""

    inside_share = 0.0


@CORRUPTIONS.register("in_or_out_mask_repeat")
@dataclass(frozen=True)
class InOrOutMaskRepeat(HoleRule):
    """`in_mask_repeat` or `out_mask_repeat`, with equal probability."""

    inside_share = 0.5
