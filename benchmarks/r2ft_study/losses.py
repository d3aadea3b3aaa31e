"""Questions with their answers, and the masked-diffusion loss on the answers.

Suffixes: B rows, L positions, M masked positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from conv_dlm.answering.prompting import Prompter

MIN_NOISE = 1e-3  # the trainer's default


@dataclass(frozen=True)
class Question:
    """A question by its number among those asked, with its prompt in the model's chat format."""

    index: int
    prompt: str
    answer: str


def as_questions(tokenizer: Any, prompts: Sequence[str], answers: Sequence[str]) -> list[Question]:
    """The questions, numbered from 0."""
    prompter = Prompter(tokenizer)
    texts = [prompter([{"role": "user", "content": prompt}]) for prompt in prompts]
    return [Question(i, *pair) for i, pair in enumerate(zip(texts, answers, strict=True))]


@torch.no_grad()
def answer_losses(
    model: Any, tokenizer: Any, questions: list[Question], seed: int, batch_size: int
) -> list[tuple[float, int]]:
    """Of each question, in order: the masked-diffusion bound on its answer in nats, and the answer's tokens.

    One noise level for each question, stratified over all of them; EOS counts as a token of the answer. The same
    loss as in training, whose functions it calls.
    """
    from trainers.losses import draw_masks, noise_levels, row_sums, token_log_probs

    generator = torch.Generator().manual_seed(seed)
    strata = torch.randperm(len(questions), generator=generator)
    noise = noise_levels(torch.rand(len(questions), generator=generator), strata, len(questions), MIN_NOISE)
    rows = []
    for question, level in zip(questions, noise, strict=True):
        prompt = tokenizer(question.prompt, add_special_tokens=False).input_ids
        answer = [*tokenizer(question.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        ids = torch.tensor(prompt + answer)
        maskable = torch.arange(len(ids)) >= len(prompt)
        uniform = torch.rand(1, len(ids), generator=generator, dtype=torch.float64)
        masked, weight = draw_masks(maskable[None], level[None], uniform)
        rows.append((ids, masked[0], weight.item(), len(answer)))

    mask_token_id = model.config.mask_token_id
    losses = [(0.0, 0)] * len(rows)
    by_length = sorted(range(len(rows)), key=lambda number: len(rows[number][0]))
    for start in range(0, len(rows), batch_size):
        numbers = by_length[start : start + batch_size]
        ids_BL, masked_BL, text_BL = (
            torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(model.device)
            for tensors in (
                [rows[number][0] for number in numbers],
                [rows[number][1] for number in numbers],
                [torch.ones_like(rows[number][0]) for number in numbers],
            )
        )
        noisy_BL = ids_BL.masked_fill(masked_BL, mask_token_id)
        logits = model(input_ids=noisy_BL, attention_mask=text_BL, logits_to_keep=masked_BL).logits
        log_p_M = token_log_probs(logits, ids_BL[masked_BL][:, None], mask_token_id).squeeze(1).double()
        sums_B = row_sums(-log_p_M, masked_BL)
        for number, total in zip(numbers, sums_B.tolist(), strict=True):
            losses[number] = (total * rows[number][2], rows[number][3])
    return losses
