"""Log-probabilities of an answer's tokens, and of the most likely ones at their positions, when they were committed."""

from dataclasses import dataclass

import torch
from torch import Tensor

UNKNOWN = -9999.0  # OpenAI's number for a token whose probability is not known


@dataclass(frozen=True)
class TokenScores:
    """Of N tokens: their ids and log-probabilities, and for each position the most likely ids with theirs."""

    ids: list[int]
    log_probs: list[float]
    top: list[list[tuple[int, float]]]

    @property
    def mean(self) -> float:
        """The mean log-probability, by which answers of different length are compared; the lowest where none is."""
        return sum(self.log_probs) / len(self.log_probs) if self.log_probs else UNKNOWN


class TopTokens:
    """A logits processor that changes nothing, and remembers the most likely tokens of each position.

    A position is scored for the last time in the step in which it is committed, so what it leaves is of that step.

    Args:
        most (`int`): tokens for each position.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._rows: Tensor | None = None

    def __call__(self, ids: Tensor, scores: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        """ids: LongTensor [N, L], scores: FloatTensor [N, V], rows and positions: LongTensor [N]."""
        if not self.most:
            return scores
        best = scores.topk(min(self.most, scores.shape[-1]), dim=-1)
        found = torch.stack([best.indices.double(), (best.values - scores.logsumexp(-1, keepdim=True)).double()], -1)
        if self._rows is None or self._rows.shape[0] <= int(rows.max()):
            larger = found.new_full((int(rows.max()) + 1, ids.shape[1], *found.shape[1:]), UNKNOWN)
            if self._rows is not None:
                larger[: self._rows.shape[0]] = self._rows
            self._rows = larger
        self._rows[rows, positions] = found
        return scores

    def of(self, row: int, start: int, ids: list[int], log_probs: Tensor) -> TokenScores:
        """The scores of the tokens `ids`, which stand from `start` on in a `row` with these `log_probs` [L]."""
        end = start + len(ids)
        own = [max(value, UNKNOWN) if value == value else UNKNOWN for value in log_probs[start:end].tolist()]
        if self._rows is None or row >= self._rows.shape[0]:
            return TokenScores(ids, own, [[] for _ in ids])
        top = [
            [(int(token), value) for token, value in position if token >= 0 and value > UNKNOWN]
            for position in self._rows[row, start:end].tolist()
        ]
        return TokenScores(ids, own, top)
