"""From an automaton over bytes to one over a tokenizer's tokens.

Tokens that act alike in every state are one class, so that the work of a step grows with states and window, not with
the vocabulary times them. An end token leads from where the text may end to the last state, and stays there: the rest
of the canvas is end tokens.
Suffixes: S states, C classes, E edges (pairs of states that some token joins), V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from conv_dlm.constraints.byte_automaton import DEAD, ByteAutomaton, byte_automaton, counted, fewest_moves, leads_to
from conv_dlm.constraints.vocabulary import Trie, Vocabulary, trie

AT_ONCE = 1 << 22  # pairs of state and node that are looked at together
SPELLED = 256  # bytes of a forced string that are looked at for its first token
NEVER, END = 0, 1  # classes: tokens that no state takes, end tokens
START = 0


@dataclass(frozen=True, eq=False)
class TokenAutomaton:
    """A deterministic automaton over classes of tokens.

    delta: int32 [S, C]; the state that a class leads to, -1 for none. Class 0 is what never occurs, class 1 end tokens.
    token_class: int64 [V]; the class of each token.
    final: bool [S]; where the canvas may end. The last state is the one behind an end token.
    State 0 is the start.
    """

    delta: np.ndarray
    token_class: np.ndarray
    final: np.ndarray

    @property
    def states(self) -> int:
        return self.delta.shape[0]

    @property
    def classes(self) -> int:
        return self.delta.shape[1]

    @cached_property
    def arcs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Source, class and target of every transition, int64, in the order of (target, source)."""
        source, class_ = np.nonzero(self.delta >= 0)
        target = self.delta[source, class_].astype(np.int64)
        order = np.lexsort((source, target))
        return source[order], class_[order], target[order]

    @cached_property
    def edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Source and target of each pair of states that some token joins, int64 [E] by target, and where its arcs begin
        in `arcs`."""
        source, _, target = self.arcs
        if not len(source):
            return source, target, source
        new = np.flatnonzero(np.diff(source, prepend=-1) | np.diff(target, prepend=-1))
        return source[new], target[new], new

    @cached_property
    def classes_of_edges(self) -> np.ndarray:
        """uint8 [E, ceil(C / 8)]: the classes that join each pair, as bits."""
        _, class_, _ = self.arcs
        source, _, start = self.edges
        member = np.zeros((len(source), self.classes), dtype=bool)
        edge = np.zeros(len(class_), dtype=np.int64)
        edge[start[1:]] = 1
        member[edge.cumsum(), class_] = True
        return np.packbits(member, axis=1)

    @cached_property
    def least(self) -> np.ndarray:
        """int64 [S]: the least number of tokens from each state to the end of the text; S where there is no way."""
        source, target, _ = self.edges
        behind = self.states - 1
        text = (source != behind) & (target != behind)
        source, target = source[text], target[text]
        moves = fewest_moves(source, target, self.final)
        return np.where(moves < 0, self.states, moves)


@lru_cache(maxsize=64)
def compiled(expression: str, vocabulary: Vocabulary, as_spelled: bool = False) -> TokenAutomaton:
    """The automaton of `expression` over the tokens of `vocabulary`; the last 64 are kept.

    as_spelled: what the language leaves no choice for is written as the tokenizer writes it.
    """
    spell = vocabulary.spell if as_spelled else None
    return token_automaton(
        byte_automaton(expression), vocabulary.tokens, vocabulary.end_token_ids, vocabulary.size, spell
    )


def token_automaton(
    automaton: ByteAutomaton,
    tokens: Sequence[bytes | None],
    end_token_ids: tuple[int, ...],
    vocab_size: int | None = None,
    spell: Callable[[str], Sequence[int]] | None = None,
) -> TokenAutomaton:
    """The strings of `tokens` whose bytes the `automaton` accepts, and end tokens behind them.

    tokens: the bytes of each id, None where it may not occur.
    end_token_ids: may be empty; then the text fills the canvas.
    vocab_size: of the model, which may have more ids than the tokenizer.
    spell: the ids that a text is written with. With it, bytes that the language leaves no choice for have these tokens,
        or one that reaches their end.
    """
    size = max(vocab_size or 0, len(tokens), *(token_id + 1 for token_id in end_token_ids), 0)
    columns, group_of_byte = np.unique(automaton.delta, axis=1, return_inverse=True)
    words = trie(tokens, group_of_byte.ravel().astype(np.int64))
    state, node, target = _walk(columns, words)
    if spell is not None:
        keep = _as_spelled(automaton, tokens, words, spell, state, node)
        state, node, target = state[keep], node[keep], target[keep]
    # a state that no sequence of tokens leads out of is none: its bytes exist, but no token spells them
    pair = np.unique(state * len(columns) + target)
    alive = leads_to(pair // len(columns), pair % len(columns), automaton.accepting)
    keep = alive[target]
    number, node_class = _classes(state[keep], node[keep], target[keep], len(words.first) - 1)

    behind = len(columns)
    delta = np.full((behind + 1, int(number.max(initial=-1)) + 3), DEAD, dtype=np.int32)
    delta[state[keep], number + 2] = target[keep]
    token_class = np.zeros(size, dtype=np.int64)
    ends = words.node >= 0
    token_class[: len(tokens)][ends] = node_class[words.node[ends]]
    final = np.append(automaton.accepting, True)
    if end_token_ids:
        token_class[list(end_token_ids)] = END
        delta[final, END] = behind
    return TokenAutomaton(delta, token_class, final)


def _walk(columns: np.ndarray, words: Trie) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All (state, node, state behind it) for nodes where tokens end: int64 [M] each.

    columns: int32 [S, G]; the transitions of each group of bytes.
    """
    is_token = np.zeros(len(words.first) - 1, dtype=bool)
    is_token[words.node[words.node >= 0]] = True
    children = np.diff(words.first)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    states = np.arange(len(columns))
    pending = [(states, np.zeros_like(states), states)]
    while pending:
        start, node, at = pending.pop()
        if len(start) > AT_ONCE:
            half = len(start) // 2
            pending += [(start[:half], node[:half], at[:half]), (start[half:], node[half:], at[half:])]
            continue
        count = children[node]
        into = np.repeat(words.first[node], count) + counted(count)
        at = columns[np.repeat(at, count), words.symbol[into]].astype(np.int64)
        alive = at >= 0
        start, node, at = np.repeat(start, count)[alive], words.child[into[alive]], at[alive]
        token = is_token[node]
        found.append((start[token], node[token], at[token]))
        more = children[node] > 0
        if more.any():
            pending.append((start[more], node[more], at[more]))
    start, node, at = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return start, node, at


def _as_spelled(
    automaton: ByteAutomaton, tokens: Sequence[bytes | None], words: Trie, spell: Callable[[str], Sequence[int]],
    state: np.ndarray, node: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """bool [M]: the transitions that stay where forced bytes are written as `spell` writes them: at a state with a
    forced string ahead, its first token, and tokens that reach the string's end, where spelling depends on what comes
    behind. Every state still leads to an end.
    """
    ahead = _forced(automaton)
    longest = np.full(len(automaton.delta), -1)  # shorter tokens are restricted
    first = np.full(len(automaton.delta), -1)
    for at, (length, string) in ahead.items():
        try:
            text = string.decode(errors="strict" if length == len(string) else "ignore")
        except UnicodeDecodeError:  # within a character
            continue
        ids = spell(text)
        spelled = [tokens[token] if token < len(tokens) else None for token in ids]
        if ids and b"".join(token or b"" for token in spelled) == text.encode() and words.node[ids[0]] >= 0:
            longest[at], first[at] = length, words.node[ids[0]]
    depth = np.zeros(len(words.first) - 1, dtype=np.int64)
    for parent in range(len(depth)):  # children have larger numbers
        depth[words.child[words.first[parent] : words.first[parent + 1]]] = depth[parent] + 1
    return np.asarray((depth[node] >= longest[state]) | (node == first[state]))


def _forced(automaton: ByteAutomaton) -> dict[int, tuple[int, bytes]]:
    """The string that each state has ahead as long as the language leaves no choice, for states with one: its length
    and its first `SPELLED` bytes."""
    one = ((automaton.delta >= 0).sum(1) == 1) & ~automaton.accepting
    byte = (automaton.delta >= 0).argmax(1)
    found: dict[int, tuple[int, bytes]] = {}
    for start in np.flatnonzero(one).tolist():
        path, at = [], start
        while one[at] and at not in found:
            path.append(at)
            at = int(automaton.delta[at, byte[at]])
        length, string = found.get(at, (0, b""))
        for at in reversed(path):
            length, string = length + 1, (bytes([byte[at]]) + string)[:SPELLED]
            found[at] = length, string
    return found


def _classes(state: np.ndarray, node: np.ndarray, target: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes with the same transitions get one number, counted from 0.

    Returns the number for each transition, int64 [M], and the class of each node, int64 [nodes]: `NEVER` for nodes
    without transitions, number + 2 for others.
    """
    order = np.lexsort((state, node))
    node_class = np.zeros(nodes, dtype=np.int64)
    if not len(order):
        return order, node_class
    numbers: dict[bytes, int] = {}
    # one string of bytes for each node: its states and targets in order
    pairs = np.stack([state[order], target[order]], axis=1).astype(np.int32)
    begin = np.flatnonzero(np.diff(node[order], prepend=-1))
    end = np.append(begin[1:], len(order))
    for first, last, which in zip(begin.tolist(), end.tolist(), node[order][begin].tolist(), strict=True):
        node_class[which] = 2 + numbers.setdefault(pairs[first:last].tobytes(), len(numbers))
    return node_class[node] - 2, node_class
