"""What constraints promise, by looking at all canvases: slow, and short enough to be believed."""

import itertools
import re

import numpy as np

from conv_dlm.constraints.byte_automaton import byte_automaton
from conv_dlm.constraints.token_automaton import TokenAutomaton, token_automaton

MASK = -1  # a position of a line of tokens that is open


def language(expression: str, tokens: list[bytes | None], ends: list[int], length: int) -> np.ndarray:
    """All lines of `length` tokens that spell a match of `expression`, with end tokens behind it: int64 [N, length]."""
    matches = re.compile(expression.encode()).fullmatch
    words = [number for number, token in enumerate(tokens) if token and number not in ends]
    lines = []
    for count in range(length + 1):
        behind = list(itertools.product(ends, repeat=length - count))
        for line in itertools.product(words, repeat=count):
            if behind and matches(b"".join(tokens[token] for token in line)):
                lines += [(*line, *end) for end in behind]
    return np.array(lines, dtype=np.int64).reshape(-1, length)


def fitting(lines: np.ndarray, canvas: list[int]) -> np.ndarray:
    """Those of `lines` that agree with what is decided on the `canvas`."""
    given = np.array(canvas)
    return lines[((lines == given) | (given == MASK)).all(1)]


def automaton(expression: str, tokens: list[bytes | None], ends: list[int]) -> TokenAutomaton:
    return token_automaton(byte_automaton(expression), tokens, tuple(ends))
