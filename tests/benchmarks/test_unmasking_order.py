"""The picture of the order of unmasking: both answers, each token with the colour of its step, as well-formed SVG."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.unmasking_order import END_SIGN, Order, draw, main, texts_of
from conv_dlm.demo.colours import step_colour
from conv_dlm.demo.pieces import Pieces

SVG = "{http://www.w3.org/2000/svg}"


def test_tokens_have_the_colour_of_their_step() -> None:
    tokens = [("So", 2), (" 1", 1), (" <", 3), (" 2.\n", 3), ("####", 1), (END_SIGN, 3)]
    root = ElementTree.fromstring(draw("How many?", [Order("topk", "right: 3", tokens, 3), Order("conv", "", [], 1)]))
    boxes = [group for group in root.iter(f"{SVG}g")]
    assert [box.findtext(f"{SVG}title") for box in boxes] == [f"step {step}" for _, step in tokens]
    assert [box.find(f"{SVG}rect").get("fill") for box in boxes] == [step_colour(step, 3) for _, step in tokens]
    assert [box.findtext(f"{SVG}text") for box in boxes] == ["So", "1", "<", "2.↵", "####", END_SIGN]
    places = [(float(box.find(f"{SVG}rect").get("y")), float(box.find(f"{SVG}rect").get("x"))) for box in boxes]
    assert places == sorted(places) and len({y for y, _ in places}) == 2, "from left to right, and a new line"
    assert "prefers-color-scheme: dark" in root.findtext(f"{SVG}style")


def test_long_lines_are_wrapped_in_their_column() -> None:
    order = Order("topk", "", [(" word", 1)] * 60, 1)
    root = ElementTree.fromstring(draw("a " * 300, [order, order]))
    width = float(root.get("width"))
    rights = [float(box.get("x")) + float(box.get("width")) for box in root.iter(f"{SVG}rect") if box.get("x")]
    assert max(rights) <= width and float(root.get("height")) > 10 * 24


def test_pieces_of_a_character_are_one(tiny_tokenizer: Any) -> None:
    ids = tiny_tokenizer("né", add_special_tokens=False).input_ids
    assert texts_of([*ids, 2], [0, 1, 4, 2, 9], Pieces(tiny_tokenizer)) == [("n", 1), ("é", 5), (END_SIGN, 3)]


def test_it_runs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "docs/order.svg"
    main(["--model", str(tiny_checkpoint), "--level", "1", "--max-new-tokens", "8", "--output", str(output)])
    text = output.read_text()
    assert ElementTree.fromstring(text).get("role") == "img" and "conv, kernel size 32, 2 forwards" in text
    assert not re.search("<script|http://(?!www.w3.org/2000/svg)", text)
