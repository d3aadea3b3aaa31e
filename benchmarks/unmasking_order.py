"""Draw the order in which two decode types unmask an answer: its tokens as text, coloured by the step.

    python -m benchmarks.unmasking_order --output docs/plots/unmasking_order.svg
    python -m benchmarks.unmasking_order --model outputs/embedded/r2ft --problem 7 --decode-types conv semi_ar \\
        --output outputs/order.svg

Both answer the same generated word problem with the same noise. The SVG has a background of its own for light and for
dark pages, and no script, so that GitHub shows it in a README.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

import conv_dlm
from conv_dlm.answering.answers import answer, text_of
from conv_dlm.answering.batching import row_generator
from conv_dlm.answering.loading import load_model
from conv_dlm.answering.prompting import Prompter
from conv_dlm.cli.data import read_levels
from conv_dlm.demo.colours import letter_colour, step_colour
from conv_dlm.demo.pieces import REPLACEMENT, Pieces
from conv_dlm.utils.files import write_atomically
from conv_dlm.word_problems import check, problem

WIDTH, MARGIN, GAP = 860, 16, 28  # pixels: of the picture, around it, and between its columns
LETTER, LINE, HEIGHT = 7.25, 24, 19  # of a monospaced letter of 12 pixels: width; from line to line; of a token's box
BREAK_SIGN, END_SIGN = "↵", "∎"
STYLE = """
.page { fill: #ffffff } .plain { fill: #1f2328 } .faint { fill: #59636e } .edge { stroke: #59636e; stroke-opacity: .35 }
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }
.title { font-weight: bold }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } .plain { fill: #f0f6fc } .faint { fill: #9198a1 } .edge { stroke: #9198a1 }
}
"""


@dataclass(frozen=True)
class Order:
    """An answer of a decode type.

    Attributes:
        title (`str`): the decode type and its settings.
        verdict (`str`): what the checker says, in words.
        tokens (`list[tuple[str, int]]`): the text of each token, and the step that unmasked it, counted from 1.
        steps (`int`): of the run.
    """

    title: str
    verdict: str
    tokens: list[tuple[str, int]]
    steps: int


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", help="name on the Hub or folder (default: the embedded model)")
    add("--problem", type=int, default=0, metavar="N", help="which problem of the test split")
    add("--level", default="4", metavar="N[-N]", help="number of operations")
    add("--decode-types", nargs="+", default=("topk", "conv"), choices=sorted(conv_dlm.DECODE_TYPES), metavar="TYPE")
    add("--max-new-tokens", type=int, default=128)
    add("--tokens-per-step", type=int, default=4)
    add("--size", type=int, default=32, help="kernel size or block length, of types that have one")
    add("--seed", type=int, default=0)
    add("--device", default="cpu")
    add("--output", type=Path, required=True, metavar="FILE.svg")
    return parser


def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    model, tokenizer = load_model(args.model, device=args.device)
    asked = problem(0, args.problem, split="test", levels=read_levels(args.level))
    prompt = Prompter(tokenizer)([{"role": "user", "content": asked.question}])
    orders = []
    for decode_type in args.decode_types:
        fields = conv_dlm.DECODE_TYPES[decode_type].fields
        given = {"steps": -(-args.max_new_tokens // args.tokens_per_step)}
        given |= {"kernel_size": args.size, "block_length": args.size}
        options = {name: value for name, value in given.items() if name in fields}
        (found,) = answer(
            model, tokenizer, [prompt], [row_generator(args.seed, args.problem)],
            decode_type=decode_type, max_new_tokens=args.max_new_tokens, **options,
        )  # fmt: skip
        tokens = texts_of(found.ids, found.unmasked_at, Pieces(tokenizer))
        size = next((f", {name.replace('_', ' ')} {args.size}" for name in options if name != "steps"), "")
        title = f"{decode_type}{size}, {found.forwards} forwards"
        verdict = check(asked.question, text_of(tokenizer, found.ids), asked.answer).in_words(asked.answer)
        orders.append(Order(title, verdict, tokens, 1 + max(found.unmasked_at)))
        print(f"{title}: {verdict}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.output, draw(asked.question, orders))


def texts_of(ids: Sequence[int], unmasked_at: Sequence[int], pieces: Pieces) -> list[tuple[str, int]]:
    """The text of each token with its step from 1; tokens that make a character only together are one.

    Args:
        ids, unmasked_at: of the text, and of the canvas.
        pieces (`Pieces`): the text of tokens.
    """
    texts: list[tuple[str, int]] = []
    pairs = zip(ids, unmasked_at, strict=False)  # the canvas goes on behind the text
    for broken, group in groupby(pairs, key=lambda pair: REPLACEMENT in pieces[pair[0]]):
        some = list(group)
        if broken:
            some_ids, steps = zip(*some, strict=True)
            texts.append((pieces.text(list(some_ids)), 1 + max(steps)))
        else:
            texts += [(END_SIGN if pieces.special(token) else pieces[token], 1 + step) for token, step in some]
    return texts


def draw(question: str, orders: Sequence[Order]) -> str:
    """The SVG: the question, then a column for each answer."""
    column = (WIDTH - 2 * MARGIN - GAP * (len(orders) - 1)) / len(orders)
    parts, y = [], MARGIN + HEIGHT
    for line in _wrapped(question, int((WIDTH - 2 * MARGIN) / LETTER)):
        parts.append(_text(MARGIN, y, line, "plain"))
        y += LINE - 4
    y += LINE // 2
    bottoms = []
    for place, order in enumerate(orders):
        drawn, bottom = _column(order, MARGIN + place * (column + GAP), y, column)
        parts.append(drawn)
        bottoms.append(bottom)
    bottom = max(bottoms) + LINE
    parts.append(_legend(max(order.steps for order in orders), bottom))
    height = bottom + HEIGHT + MARGIN
    described = escape("; ".join(f"{order.title}: {order.verdict}" for order in orders))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img"><title>The step that unmasked each token. {described}</title><style>{STYLE}</style>'
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>{"".join(parts)}</svg>\n'
    )


def _column(order: Order, left: float, top: float, width: float) -> tuple[str, float]:
    """An answer, and where it ends."""
    parts = [_text(left, top, order.title, "plain title"), _text(left, top + LINE - 5, order.verdict, "faint")]
    x, y = left, top + 2 * LINE + 4
    for text, step in order.tokens:
        for piece in text.splitlines(keepends=True):
            ends = piece.endswith("\n")
            shown = piece.rstrip("\n") + (BREAK_SIGN if ends else "")
            if x + len(shown) * LETTER > left + width and x > left:
                x, y = left, y + LINE
            shown = shown if x > left else shown.lstrip(" ")
            parts.append(_token(x, y, shown, step_colour(step, order.steps), step))
            x += len(shown) * LETTER + 1.5
            if ends:
                x, y = left, y + LINE
    return "".join(parts), y


def _token(x: float, y: float, text: str, colour: str, step: int) -> str:
    spaces = len(text) - len(text.lstrip(" "))
    wide = (len(text) - spaces) * LETTER + 1
    start = x + spaces * LETTER
    return (
        f'<g><title>step {step}</title><rect class="edge" x="{start:.1f}" y="{y - HEIGHT + 5:.1f}" '
        f'width="{max(wide, 2):.1f}" height="{HEIGHT}" rx="3" fill="{colour}"/>'
        f'<text x="{start + 0.5:.1f}" y="{y:.1f}" fill="{letter_colour(colour)}" '
        f'textLength="{max(wide - 1, 1):.1f}" lengthAdjust="spacingAndGlyphs">{escape(text.lstrip(" "))}</text></g>'
    )


def _legend(steps: int, y: float) -> str:
    """From the first step to the last."""
    cells, wide = 24, 9
    parts = [_text(MARGIN, y, "unmasked first", "faint")]
    left = MARGIN + 15 * LETTER
    for cell in range(cells):
        colour = step_colour(1 + round(cell * (steps - 1) / (cells - 1)), steps)
        place = f'x="{left + cell * wide:.1f}" y="{y - HEIGHT + 7}" width="{wide}" height="14"'
        parts.append(f'<rect {place} fill="{colour}"/>')
    parts.append(_text(left + cells * wide + 8, y, "last", "faint"))
    return "".join(parts)


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _wrapped(text: str, letters: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


if __name__ == "__main__":
    main()
