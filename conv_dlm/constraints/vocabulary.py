"""The bytes that a tokenizer's tokens stand for, and the trie of them.

Suffixes: V vocabulary, N nodes of the trie.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np

from conv_dlm.constraints.errors import TokenizerWithoutBytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")  # a byte that SentencePiece has no piece for


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What a constraint knows of a tokenizer and its model; equal only to itself.

    tokens: the bytes of each id, None for ids that never occur in a text.
    end_token_ids: may be empty.
    size: of the model's vocabulary, which may have more ids than the tokenizer.
    spell: the ids that the tokenizer writes a text with.
    """

    tokens: tuple[bytes | None, ...]
    end_token_ids: tuple[int, ...]
    size: int
    spell: Callable[[str], list[int]]


_vocabularies: "WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[tuple[int, ...], int, int], Vocabulary]]"
_vocabularies = WeakKeyDictionary()


def vocabulary_of(
    tokenizer: "PreTrainedTokenizerBase", end_token_ids: tuple[int, ...], mask_token_id: int, size: int = 0
) -> Vocabulary:
    """The vocabulary of `tokenizer`, read once for each. Raises `TokenizerWithoutBytes`."""
    known = _vocabularies.setdefault(tokenizer, {})
    key = (end_token_ids, mask_token_id, size)
    if key not in known:
        tokens = token_bytes(tokenizer)
        for token_id in (*end_token_ids, mask_token_id):
            if token_id < len(tokens):
                tokens[token_id] = None
        known[key] = Vocabulary(tuple(tokens), end_token_ids, max(size, len(tokens)), _speller(tokenizer))
    return known[key]


def _speller(tokenizer: "PreTrainedTokenizerBase") -> Callable[[str], list[int]]:
    """What `Vocabulary.spell` is; it doesn't keep the tokenizer alive, whose vocabulary is kept as long as it is."""
    its = ref(tokenizer)

    def spell(text: str) -> list[int]:
        known = its()
        return [] if known is None else list(known.encode(text, add_special_tokens=False))

    return spell


def token_bytes(tokenizer: "PreTrainedTokenizerBase") -> list[bytes | None]:
    """The bytes of each token by id; None for special tokens and for ids without a token.

    Byte-level BPE (GPT-2, Qwen, LLaDA), SentencePiece with or without byte fallback (Llama 2), and added tokens that
    are not special. Raises `TokenizerWithoutBytes` for others (WordPiece, for instance, whose decoding depends on the
    neighbours).
    """
    spelling = _spelling(tokenizer)
    vocabulary = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    added = {}
    for token_id, entry in tokenizer.added_tokens_decoder.items():
        added[token_id] = entry.content
        if entry.special:
            special.add(token_id)
    result: list[bytes | None] = [None] * (max(vocabulary.values()) + 1)
    for token, token_id in vocabulary.items():
        if token_id in special:
            continue
        text = added.get(token_id)
        result[token_id] = text.encode() if text is not None else spelling(token)
    return result


def _spelling(tokenizer: "PreTrainedTokenizerBase") -> Callable[[str], bytes | None]:
    """How a token of the vocabulary is read as bytes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        decoder = json.dumps(json.loads(backend.to_str()).get("decoder"))
        if '"ByteLevel"' in decoder:
            return byte_level
        if '"ByteFallback"' in decoder or "\\u2581" in decoder:
            return piece
    elif hasattr(tokenizer, "sp_model"):
        return piece
    raise TokenizerWithoutBytes(
        f"{type(tokenizer).__name__} doesn't say which bytes its tokens stand for, which a constraint has to know. "
        "Byte-level BPE and SentencePiece tokenizers do; leave `constraint` out with others."
    )


def byte_level(token: str) -> bytes | None:
    """A token of byte-level BPE, whose characters stand for one byte each (GPT-2's table)."""
    table = _byte_of_character()
    return bytes(table[character] for character in token) if all(c in table for c in token) else None


def piece(token: str) -> bytes:
    """A piece of SentencePiece: ▁ is a space, <0xAB> a byte."""
    byte = BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """Printable characters of Latin-1 are their own byte; the other bytes have the characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


class Trie(NamedTuple):
    """Strings of symbols as paths from node 0. Children of a node are `first[node]:first[node + 1]` in `child` and
    `symbol`; every node is the child of one other.

    first: int64 [N + 1]; child, symbol: int64 [N - 1].
    node: int64 [V]; where the string of a token ends, -1 for none.
    """

    first: np.ndarray
    child: np.ndarray
    symbol: np.ndarray
    node: np.ndarray


def trie(tokens: Sequence[bytes | None], group_of_byte: np.ndarray) -> Trie:
    """The trie of `tokens` with their bytes read as groups, int64 [256]: tokens that differ in bytes of one group only
    end at one node. Empty tokens have none: a position that says nothing could be anything."""
    known = np.array([number for number, token in enumerate(tokens) if token], dtype=np.int64)
    strings = [tokens[number] or b"" for number in known.tolist()]
    length = np.array([len(string) for string in strings], dtype=np.int64)
    symbols = group_of_byte[np.frombuffer(b"".join(strings), dtype=np.uint8)]
    start = length.cumsum() - length
    at = np.zeros(len(known), dtype=np.int64)
    node = np.full(len(tokens), -1, dtype=np.int64)
    parents, edges, count = [], [], 1
    going = np.arange(len(known))
    depth = 0
    while len(going):
        key = at[going] * 256 + symbols[start[going] + depth]
        unique, inverse = np.unique(key, return_inverse=True)
        parents.append(unique // 256)
        edges.append(unique % 256)
        at[going] = count + inverse.ravel()
        count += len(unique)
        depth += 1
        ended = length[going] == depth
        node[known[going[ended]]] = at[going[ended]]
        going = going[~ended]
    parent = np.concatenate(parents) if parents else np.zeros(0, dtype=np.int64)
    symbol = np.concatenate(edges) if edges else parent
    # nodes are numbered by depth and then by parent, so that children of one node are neighbours already
    first = np.searchsorted(parent, np.arange(count + 1))
    return Trie(first, np.arange(1, count), symbol, node)
