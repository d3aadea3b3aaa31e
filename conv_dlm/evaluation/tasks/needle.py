"""A needle in a haystack: one sentence to be found again in a long text, by length and depth (as LongLLaDA measures how
far a context reaches, arXiv 2506.14429)."""

import json
import random
import re
from typing import Any

from conv_dlm.evaluation.evaluate import Task
from conv_dlm.evaluation.figures import figure
from conv_dlm.utils.files import Row

NEEDLE_FILE = "needle.json"
DEFAULT_WORDS, DEFAULT_DEPTHS = (500, 1000, 2000, 4000), (0, 25, 50, 75, 100)
NEEDLES = 5  # of each length and depth, where nobody says
# the haystack: 1,000 sentences without a number
WHO = ("Anna", "The baker", "A tall sailor", "Our neighbour", "The old teacher", "Tom", "A young painter", "The miller",
       "My aunt", "The postman")  # fmt: skip
DID = ("walked slowly", "carried a basket", "whistled a tune", "waited for a friend", "looked for shade",
       "told a story", "picked some flowers", "mended a fence", "watched the clouds", "read a letter")  # fmt: skip
WHERE = ("by the river", "in the market", "near the harbour", "under the oak", "on the hill", "behind the mill",
         "along the beach", "at the gate", "in the garden", "across the meadow")  # fmt: skip
CITIES = ("Aldon", "Brevik", "Corvale", "Dunmere", "Elsby", "Farrow", "Glenport", "Harwick", "Istead", "Kelmar")


def load(
    questions: int | None = None,
    words: tuple[int, ...] = DEFAULT_WORDS,
    depths: tuple[int, ...] = DEFAULT_DEPTHS,
    seed: int = 0,
) -> Task:
    """Texts with a secret number, lengths and depths in turn.

    Args:
        questions (`int`, *optional*): how many; five of each length and depth if `None`.
        words (`tuple[int, ...]`, *optional*): lengths of the texts; a word is one to two tokens.
        depths (`tuple[int, ...]`, *optional*): how far from the start the needle is, in percent of the text.
        seed (`int`, *optional*, defaults to `0`): which texts and numbers.

    Returns:
        The task. Its score is `accuracy`, whether the number stands in the answer; the same by length and depth goes to
        `needle.json`.

    Raises:
        ValueError: a length below 1, a depth out of range, or no question.
    """
    if not words or min(words) < 1:
        raise ValueError(f"`words`={words} must be numbers of at least 1.")
    if not depths or not all(0 <= depth <= 100 for depth in depths):
        raise ValueError(f"`depths`={depths} must be percentages, from 0 to 100.")
    cells = [(length, depth) for length in words for depth in depths]
    count = NEEDLES * len(cells) if questions is None else questions
    if count < 1:
        raise ValueError(f"`questions`={questions} must be at least 1.")
    rows = [_row(*cells[index % len(cells)], random.Random(f"{seed}/{index}")) for index in range(count)]
    return Task("needle", rows, [[row["question"]] for row in rows], score, _files)


def _row(words: int, depth: int, draw: random.Random) -> Row:
    sentences, length = [], 0
    while length < words:
        sentence = f"{draw.choice(WHO)} {draw.choice(DID)} {draw.choice(WHERE)}."
        sentences.append(sentence)
        length += len(sentence.split())
    city, number = draw.choice(CITIES), draw.randint(1000, 9999)
    sentences.insert(round(len(sentences) * depth / 100), f"The secret number of {city} is {number}.")
    question = f"{' '.join(sentences)}\n\nWhat is the secret number of {city}? Answer with the number alone."
    return {"question": question, "answer": str(number), "words": words, "depth": depth}


def score(row: Row, texts: list[str]) -> dict[str, float]:
    """Whether the number stands in the last text."""
    return {"accuracy": float(row["answer"] in re.findall(r"\d+", texts[-1].replace(",", "")))}


def _files(rows: list[Row], texts: list[list[str]]) -> dict[str, str]:
    found: dict[str, dict[str, list[float]]] = {}
    for row, its in zip(rows, texts, strict=True):
        found.setdefault(str(row["words"]), {}).setdefault(str(row["depth"]), []).append(score(row, its)["accuracy"])
    table: dict[str, Any] = {
        words: {depth: {"n": len(hits), "accuracy": figure(hits)} for depth, hits in of_depth.items()}
        for words, of_depth in found.items()
    }
    return {NEEDLE_FILE: json.dumps(table, indent=1) + "\n"}
