"""What a greedy step with a constraint reads and writes on the device, for each position that it predicts, by count.

    python -m benchmarks.constraint_bytes

Each tensor that an operation takes or returns counts once, views don't; an index that all positions share counts once.
"""

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.constraints import SCHEMAS, vocabulary
from conv_dlm.constraints import JSONSchema, rows
from conv_dlm.constraints.vocabulary import Vocabulary

SIZE, MASK, END, POSITIONS, CANVAS = 126_464, 126_336, 126_001, 8, 64  # LLaDA's vocabulary


class Bytes(TorchDispatchMode):
    """Counts what operations read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [one for one in tree_leaves((args, kwargs, result)) if isinstance(one, torch.Tensor)]
            self.total += sum(min(t.untyped_storage().nbytes(), t.numel() * t.element_size()) for t in tensors)
        return result


def main() -> None:
    words = Vocabulary(tuple(vocabulary(126_000)), (END,), SIZE, lambda text: [])
    ids = torch.full((1, CANVAS), MASK)
    canvas = SimpleNamespace(ids=ids, masked=ids == MASK, mask_token_id=MASK)
    at = SimpleNamespace(rows=torch.zeros(POSITIONS, dtype=torch.long), positions=torch.arange(POSITIONS))
    scores = torch.randn(POSITIONS, SIZE)
    for name, schema in SCHEMAS.items():
        with patch.object(rows, "vocabulary_of", lambda *_: words):
            constraint = rows.RowConstraints([JSONSchema(schema)], None, canvas, torch.tensor([END]))
        constraint.mask(canvas, scores, at)  # what is made once
        with Bytes() as mask:
            allowed = scores.masked_fill(~constraint.mask(canvas, scores, at), -torch.inf)
        with Bytes() as summary:
            constraint.summary(allowed, at, 1, 0.0, None)
        each = [count.total / POSITIONS / 1e6 for count in (mask, summary)]
        print(f"{name:26} mask {each[0]:.1f} MB, summary {each[1]:.1f} MB a position", flush=True)


if __name__ == "__main__":
    main()
