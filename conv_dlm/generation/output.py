"""What `generate` returns with `return_dict_in_generate=True`."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils.generic import ModelOutput


@dataclass
class DiffusionGenerateOutput(ModelOutput):
    """A finished denoising run of B rows on L canvas positions (prompt and response).

    sequences: LongTensor [B, L]; prompt and response, pad after the first end token of the response.
    forwards: LongTensor [B]; forwards that each row took part in. With classifier-free guidance the pair of canvases
        counts as one.
    tokens_per_forward: FloatTensor [B]; decided tokens before the end token, over forwards.
    decided_at: LongTensor [B, L]; the step that decided each position, from 0; `steps` for those of the final fill,
        -1 for given positions.
    history: LongTensor [n + 1, B, L] with `output_history=True`: the canvas at the start and after each of n steps.
    """

    sequences: Tensor | None = None
    forwards: Tensor | None = None
    tokens_per_forward: Tensor | None = None
    decided_at: Tensor | None = None
    history: Tensor | None = None
