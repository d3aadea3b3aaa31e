"""Measuring the long decoding window of a model: what it proposes behind prompts when all is still masked.

The mathematics is in `long_window`. Shapes: B rows, P prompt tokens, K masked positions, G kinds, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.decoding_study.long_window import KINDS, kind_masses, token_kinds
from conv_dlm.evaluation.figures import figure

EDGES = (0, 1, 10, 32, 96)  # distances from the prompt at which the table's ranges begin
TEXT_KINDS = tuple(kind for kind in KINDS if kind != "eos")


@torch.no_grad()
def window_masses(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], canvas: int, high_prior_V: Tensor
) -> Tensor:
    """Probability mass on each of the `KINDS` at each distance from the prompt: `FloatTensor` [B, G, K], on the CPU.

    Args:
        model: whose `forward` takes the positions of `logits_to_keep` [B, K]: LLaDA and MDLM of `conv_dlm`.
        prompts: their tokens, as the model reads them.
        canvas (`int`): masked positions behind each prompt.
        high_prior_V (`BoolTensor` [V]): as `high_prior_tokens` gives it.
    """
    canvas_K = torch.full((canvas,), model.config.mask_token_id)
    rows = [torch.cat([torch.tensor(prompt), canvas_K]) for prompt in prompts]
    ids_BL = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    text_BL = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    start_B1 = torch.tensor([[len(prompt)] for prompt in prompts])
    logits_BKV = model(
        input_ids=ids_BL.to(model.device),
        attention_mask=text_BL.to(model.device),
        logits_to_keep=(start_B1 + torch.arange(canvas)).to(model.device),
    ).logits
    kinds_BGV = prompt_kinds(tokenizer, prompts, high_prior_V).to(logits_BKV.device)
    return kind_masses(logits_BKV, kinds_BGV, model.config.mask_token_id).cpu()


def prompt_kinds(tokenizer: Any, prompts: Sequence[Sequence[int]], high_prior_V: Tensor) -> Tensor:
    """Which tokens are of which kind, behind each prompt: `BoolTensor` [B, G, V]."""
    prompt_BP = pad_sequence(
        [torch.tensor(prompt) for prompt in prompts], batch_first=True, padding_value=tokenizer.pad_token_id
    )
    return token_kinds(prompt_BP, high_prior_V, tokenizer.eos_token_id, set(tokenizer.all_special_ids))


def mass_curves(masses: Sequence[Sequence[Sequence[float]]]) -> dict[str, Any] | None:
    """Mean mass on each kind of token by distance from the prompt, with errors over rows; None if there are no rows.

    `all` is the mass as it is, `text` its share of the mass that is not on EOS: a model that ends its answers there has
    little mass left for other tokens. Of each kind `at` each distance, and over the `ranges` that begin at `starts`.

    Args:
        masses: of each row, [G, K].
    """
    rows = [dict(zip(KINDS, row, strict=True)) for row in masses]
    if not rows:
        return None
    starts = [edge for edge in EDGES if edge < len(rows[0]["eos"])]
    everything = [[1.0] * len(row["eos"]) for row in rows]
    text = [[1.0 - mass for mass in row["eos"]] for row in rows]
    result: dict[str, Any] = {"n": len(rows), "starts": starts}
    for name, kinds, wholes in (("all", KINDS, everything), ("text", TEXT_KINDS, text)):
        result[name] = {}
        for kind in kinds:
            parts = [row[kind] for row in rows]
            ranges = _curve(_over_ranges(parts, starts), _over_ranges(wholes, starts))
            result[name][kind] = {"at": _curve(parts, wholes), "ranges": ranges}
    return result


def _curve(
    parts: Sequence[Sequence[float]], wholes: Sequence[Sequence[float]]
) -> dict[str, list[float | None]]:
    """Means and standard errors of columns over rows; the input is [rows, columns]."""
    columns = zip(zip(*parts, strict=True), zip(*wholes, strict=True), strict=True)
    figures = [figure(*column) or [None, None] for column in columns]
    mean, error = ([None if x is None else round(x, 5) for x in numbers] for numbers in zip(*figures, strict=True))
    return {"mean": mean, "error": error}


def _over_ranges(values: Sequence[Sequence[float]], starts: Sequence[int]) -> list[list[float]]:
    ends = [*starts[1:], len(values[0])]
    return [[sum(row[start:end]) for start, end in zip(starts, ends, strict=True)] for row in values]
