"""Runs of `generate` with all that an unmasking rule was shown and said, step by step: what heads are trained on.

Shapes: B rows, L canvas positions, C of them behind the prompt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conv_dlm.answering.answers import end_tokens, until_end
from conv_dlm.answering.batching import pad_left
from conv_dlm.generation.noise import row_seeds
from conv_dlm.generation.parts.rules import Decision, StepState, UnmaskingRule, in_block
from conv_dlm.generation.prepare import prepare

Decide = Callable[[UnmaskingRule, StepState], Decision]


@dataclass(frozen=True)
class RecordedStep:
    """What a rule saw in a step, and what it committed. Tensors are [B, C], of the positions behind the prompt.

    Attributes:
        confidence_BC (`FloatTensor`): of the candidates.
        token_BC (`LongTensor`): the candidates.
        masked_BC, eligible_BC, block_BC (`BoolTensor`): masks; those that the step might unmask; the step's block.
        commit_BC (`BoolTensor`): what was unmasked.
    """

    confidence_BC: Tensor
    token_BC: Tensor
    masked_BC: Tensor
    eligible_BC: Tensor
    block_BC: Tensor
    commit_BC: Tensor


@dataclass(frozen=True)
class RecordedRun:
    """What was written to B prompts, and how.

    Attributes:
        completion_ids (`list[list[int]]`): the answers, without their end tokens.
        forwards (`list[int]`): forwards that each row took.
        steps (`list[RecordedStep]`): one for each step of the longest row; a finished row has nothing eligible.
    """

    completion_ids: list[list[int]]
    forwards: list[int]
    steps: list[RecordedStep]


@torch.no_grad()
def record(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    seeds: Sequence[int],
    pad_token_id: int,
    decide: Decide | None = None,
    **options: Any,
) -> RecordedRun:
    """Denoise completions as `generate` does, and keep what happens.

    Args:
        model: with the `generate` of `conv_dlm`.
        prompt_ids (B lists of `int`): token ids.
        seeds (B `int`): one for each row.
        pad_token_id (`int`): pads the prompts.
        decide (`Callable`, *optional*): says what is committed, in place of the decode type's rule.
        options: keywords of `generate`; the rule has to ask for the confidence.
    """
    ids_BP, mask_BP = pad_left(prompt_ids, pad_token_id)
    start, steps = ids_BP.shape[1], []
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    prepared = prepare(
        model, ids_BP.to(model.device), attention_mask=mask_BP.to(model.device), generator=generators, strict=True,
        **options,
    )  # fmt: skip
    run = prepared.run
    its_own = run.decide if decide is None else decide

    def recording(rule: UnmaskingRule, now: StepState) -> Decision:
        decision = its_own(rule, now)
        confidence, masked = now.statistics["confidence"], now.canvas.masked
        seen = (confidence, now.token, masked, now.eligible, in_block(now), decision.commit)
        steps.append(RecordedStep(*(value[:, start:] for value in seen)))
        return decision

    run.decide = recording
    run.run(row_seeds(generators, len(seeds), ids_BP.device).to(model.device))
    ends = end_tokens(model, options)
    written = [until_end(ids, ends)[0] for ids in run.canvas.ids[:, start:].tolist()]
    return RecordedRun(written, list(run.forwards), steps)
