"""What `generate` returns with `return_dict_in_generate=True`."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils.generic import ModelOutput

from conv_dlm.generation.past import Past


@dataclass
class DiffusionGenerateOutput(ModelOutput):
    """A finished denoising run of B rows on L canvas positions (prompt and response).

    Args:
        sequences (`torch.LongTensor` of shape `[B, L]`):
            Prompt and response, pad after the first end token of the response.
        forwards (`torch.LongTensor` of shape `[B]`):
            Forwards of the model that each row took part in (NFE). With classifier-free guidance the pair of canvases
            counts as one.
        tokens_per_forward (`torch.FloatTensor` of shape `[B]`):
            Unmasked tokens before the end token, over forwards.
        unmasked_at (`torch.LongTensor` of shape `[B, L]`):
            The step that unmasked each position, from 0; the final fill has a number of its own behind the last; -1 for
            given positions, and for those behind a row's end that were never unmasked.
        log_probs (`torch.FloatTensor` of shape `[B, L]`):
            Log-probability of each token when it was committed, at temperature 1 and after processors; 0 where none was
            predicted: given positions, and what follows an end.
        finish_reason (`list[str]`):
            Why each row's text ends: `"eos"` by an end token, `"length"` because the canvas is full, `"criterion"` by a
            stopping criterion, `"streamer"` because its streamer had enough, `"callback"` because
            `callback_on_step_end` stopped the run.
        history (`torch.LongTensor` of shape `[n + 1, B, L]`, *optional*, with `output_history=True`):
            The canvas at the start and after each of n steps.
        past ([`~conv_dlm.Past`], *optional*, where one was passed):
            Keys and values for the next call.
    """

    sequences: Tensor | None = None
    forwards: Tensor | None = None
    tokens_per_forward: Tensor | None = None
    unmasked_at: Tensor | None = None
    log_probs: Tensor | None = None
    finish_reason: list[str] | None = None
    history: Tensor | None = None
    past: Past | None = None
