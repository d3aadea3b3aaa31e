"""What R2FT is meant to change in a model, measured on held-out questions, each row on its own draws.

Shapes: B rows, L positions, K positions of the response's canvas, G kinds of tokens, M masked positions, V vocabulary.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.decoding_study.long_window import high_prior_tokens, kinds_of_tokens, log_priors, token_counts
from benchmarks.decoding_study.window import prompt_kinds, window_masses
from benchmarks.r2ft_study.losses import Question, answer_losses
from trainers import R2FTConfig, noise
from trainers.corruption import Examples
from trainers.r2ft_trainer import response_log_probs

Record = dict[str, Any]


@dataclass
class R2FTMeasures:
    """Measures of a model on questions with answers; a row's figures depend on no other row but for rounding.

    tokenizer: that of the models.
    questions: all rows that are measured.
    training_answers: the training split's responses, which say how frequent tokens are.
    vocab_size: tokens that the models know.
    canvas: response length, EOS padding included.
    seed: of the masks of the held-out loss, and of the corruptions.
    batch_size: rows of a forward.
    """

    tokenizer: Any
    questions: list[Question]
    training_answers: Iterable[str]
    vocab_size: int
    canvas: int
    seed: int
    batch_size: int

    def __post_init__(self) -> None:
        self._counts_V = token_counts(map(self.encode, self.training_answers), self.vocab_size)
        self._high_prior_V = high_prior_tokens(self._counts_V, exclude=set(self.tokenizer.all_special_ids))

    @cached_property
    def log_priors_V(self) -> Tensor:
        """Of each token, from the training split's responses: `FloatTensor` [V]."""
        return log_priors(self._counts_V)

    @cached_property
    def args(self) -> R2FTConfig:
        """Whose defaults the corruption rule reads; nothing is trained."""
        return R2FTConfig("unused", canvas_length=self.canvas, use_cpu=True, bf16=False)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def loss(self, model: Any, questions: list[Question]) -> list[Record]:
        """The masked-diffusion bound on each answer in nats, and its tokens; the noise is stratified over all rows."""
        losses = answer_losses(model, self.tokenizer, self.questions, self.seed, self.batch_size)
        of_row = {question.index: pair for question, pair in zip(self.questions, losses, strict=True)}
        return [dict(zip(("loss", "tokens"), of_row[question.index], strict=True)) for question in questions]

    @torch.no_grad()
    def log_p(self, model: Any, questions: list[Question]) -> list[Record]:
        """Log-probability a token of the clean response (chosen) and of its corruption by `repeat` (rejected).

        As R2FT's loss takes them: from one forward, each divided by its own number of tokens.
        """
        rule, eos, mask = self.args.corruption_rule(), self.tokenizer.eos_token_id, model.config.mask_token_id
        seeds_B = noise.row_seeds(self.seed, 0, torch.tensor([question.index for question in questions]))
        examples = self.examples(questions)
        corruption = rule(examples, lambda n: noise.uniform(seeds_B, noise.CORRUPTION, n), eos)
        logits_MV = model(
            input_ids=examples.ids_BL.masked_fill(corruption.masked_BL, mask).to(model.device),
            attention_mask=(examples.positions_L < examples.length_B[:, None]).long().to(model.device),
            logits_to_keep=corruption.needed_BL.to(model.device),
        ).logits.cpu()
        chosen_B, rejected_B = response_log_probs(logits_MV, examples, corruption, mask)
        pairs = zip(chosen_B.tolist(), rejected_B.tolist(), strict=True)
        return [{"chosen": chosen, "rejected": rejected} for chosen, rejected in pairs]

    def masses(self, model: Any, questions: list[Question]) -> list[Record]:
        """Probability mass on each of the `KINDS` at each distance from the prompt, all behind it masked: [G, K]."""
        prompts = [self.encode(question.prompt) for question in questions]
        return _as_records(window_masses(model, self.tokenizer, prompts, self.canvas, self._high_prior_V))

    def reference_masses(self) -> list[Record]:
        """The same of the reference answers: which kind of token stands at each distance, EOS behind the end."""
        prompts = [self.encode(question.prompt) for question in self.questions]
        eos = self.tokenizer.eos_token_id
        answers_BK = torch.full((len(prompts), self.canvas), eos)
        for row_K, question in zip(answers_BK, self.questions, strict=True):
            ids = self.encode(question.answer)[: self.canvas]
            row_K[: len(ids)] = torch.tensor(ids)
        kinds_BGV = prompt_kinds(self.tokenizer, prompts, self._high_prior_V)
        return _as_records(kinds_of_tokens(answers_BK, kinds_BGV))

    def examples(self, questions: list[Question]) -> Examples:
        """Prompt, answer and EOS up to the end of the canvas, as the corruption rules take them."""
        rows, bounds = [], []
        for question in questions:
            prompt, answer = self.encode(question.prompt), self.encode(question.answer)
            start, end = len(prompt), len(prompt) + len(answer)
            length = max(start + self.canvas, end + 1)
            rows.append(torch.tensor(prompt + answer + [self.tokenizer.eos_token_id] * (length - end)))
            bounds.append((start, end, length))
        ids_BL = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        start_B, end_B, length_B = torch.tensor(bounds).unbind(1)
        positions_L = torch.arange(ids_BL.shape[1])
        response_BL = (positions_L >= start_B[:, None]) & (positions_L <= end_B[:, None])
        return Examples(ids_BL, response_BL, start_B, end_B, length_B)


MEASURES: dict[str, Callable[[R2FTMeasures, Any, list[Question]], list[Record]]] = {
    "loss": R2FTMeasures.loss,
    "log_p": R2FTMeasures.log_p,
    "masses": R2FTMeasures.masses,
}


def _as_records(masses_BGK: Tensor) -> list[Record]:
    return [{"masses": [[round(mass, 5) for mass in kind] for kind in row]} for row in masses_BGK.tolist()]
