"""The likelihood of a response under a masked diffusion LM, by Monte Carlo.

Such a model gives a bound. Of a response x of n tokens some set M of k is masked, each k from 1 to n as likely as the
others, and each set of k tokens too:

    log p(x | prompt) >= E_k E_M  n/k  sum over i in M of log p(x_i | prompt, the tokens outside M)

MDLM, arXiv 2406.07524, has the bound with tokens that are masked independently; LLaDA, arXiv 2502.09992, evaluates
with exactly k of them, which varies less. "Log-likelihood" means this bound here. Of a model that sees block by block
it is the sum of the blocks' bounds, each after the text before it, as they are trained (BD3-LM, arXiv 2503.09573).
Shapes: R maskings, N response tokens, K masked ones, W of the masking that has most, A alternatives, V vocabulary.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from conv_dlm.answering.batching import pad_left
from conv_dlm.generation import noise
from conv_dlm.generation.attention import BIDIRECTIONAL, AttentionPattern, BlockCausal
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.denoiser import Denoiser
from conv_dlm.generation.placement import canvas_device

CHUNK = 2**22  # logits that are looked at in float32 at a time
LEVEL, ORDER = range(2)  # what a draw is for
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """How likely is `response` after `prompt`? Token ids; the response has at least one."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True)
class Estimate:
    """The estimated likelihood for a `Question`.

    Attributes:
        log_likelihood (`float`): natural logarithm, summed over the response.
        standard_error (`float`): error of the estimate, see `estimate`; 0 if all maskings were enumerated.
        is_greedy (`bool`, *optional*): see `LikelihoodEstimator.are_greedy`; `None` if that was not requested, except
            for a single token, where it is known anyway.
    """

    log_likelihood: float
    standard_error: float
    is_greedy: bool | None = None


def in_blocks(question: Question, block_length: int, first_alone: bool) -> list[Question]:
    """The question in parts that lie in one block each, which are counted from the prompt's first token; what comes
    before a part is its prompt. first_alone: whether a block's first token, which such a model predicts from the block
    before, is a part of its own."""
    text, start, parts = question.prompt + question.response, len(question.prompt), []
    while start < len(text):
        alone = first_alone and start % block_length == 0
        end = start + 1 if alone else (start // block_length + 1) * block_length
        parts.append(Question(text[:start], text[start:end]))
        start = end
    return parts


def seed_of(question: Question, seed: int) -> int:
    """The seed of a question's maskings. It comes from the tokens, so batch, order and process do not matter."""
    digest = hashlib.blake2b(repr((seed, question.prompt, question.response)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def maskings(tokens: int, draws: int, seed: int) -> tuple[Tensor, Tensor, bool]:
    """Choose which tokens to mask, and the weight of each masking.

    If there are no more than `draws` maskings, all are used: a single token has one. Otherwise `draws` are drawn at
    random and stratified: the numbers of masked tokens cover 1 to n evenly, each drawn from its own stratum.

    Args:
        tokens (`int`): length n of the response.
        draws (`int`): how many maskings to draw; an even number.
        seed (`int`): seed of the draws.

    Returns:
        `BoolTensor` [R, N]; `DoubleTensor` [R], factors such that the sum of (factor times summed log-probability of
        the masked tokens) over the maskings estimates the bound; and whether these are all maskings there are.
    """
    if draws < 2 or draws % 2:
        raise ValueError(f"`draws`={draws} must be even, and at least 2: the standard error comes from pairs of draws.")
    if tokens < draws.bit_length():
        sets = torch.tensor(sorted(range(1, 2**tokens), key=int.bit_count))
        masked_RN = (sets[:, None] >> torch.arange(tokens)) & 1 == 1
        count_R = masked_RN.sum(1)
        alike = torch.tensor([math.comb(tokens, int(k)) for k in count_R], dtype=torch.double)
        return masked_RN, 1 / (count_R * alike), True
    strata_R = torch.arange(draws)
    seeds_R = seed + (strata_R << 8)
    level_R = noise.uniform(seeds_R, LEVEL, torch.zeros(draws, 1, dtype=torch.long), 0).squeeze(1).double()
    count_R = (1 + (tokens * (strata_R + level_R) / draws).long()).clamp(max=tokens)
    order_RN = noise.uniform(seeds_R, ORDER, torch.arange(tokens).expand(draws, -1), 0)
    rank_RN = order_RN.argsort(dim=1, stable=True).argsort(1)
    return rank_RN < count_R[:, None], tokens / (count_R * draws).double(), False


def estimate(terms: Sequence[float], exact: bool) -> tuple[float, float]:
    """The bound and its standard error, from the terms of its sum in the order of `maskings`.

    The naive error would include the difference between few and many masks, which stratification removes, and be two to
    three times too large. Here neighbouring strata are compared in pairs ("collapsed strata", Cochran, Sampling
    Techniques): the expected square is the variance plus whatever the two strata differ by, and never less.
    """
    total = math.fsum(terms)
    if exact:
        return total, 0.0
    squares = math.fsum((first - second) ** 2 for first, second in zip(terms[::2], terms[1::2], strict=True))
    return total, math.sqrt(squares)


def total(parts: Sequence[Estimate]) -> Estimate:
    """The estimate for all parts of a text together."""
    variance = math.fsum(part.standard_error**2 for part in parts)
    checked = [part.is_greedy for part in parts if part.is_greedy is not None]
    is_greedy = all(checked) if len(checked) == len(parts) else None
    return Estimate(math.fsum(part.log_likelihood for part in parts), math.sqrt(variance), is_greedy)


@dataclass(frozen=True)
class MaskedRow:
    """A row of a forward pass: a prompt, and a response with masks.

    Attributes:
        prompt (tuple of `int`): token ids.
        alternatives (`LongTensor` [A, N]): responses whose tokens are looked up at the masks; they agree elsewhere.
        masked (`BoolTensor` [N]): which tokens of the response are masked; at least one.
    """

    prompt: tuple[int, ...]
    alternatives: Tensor
    masked: Tensor


@dataclass(frozen=True)
class Reading:
    """The predictions for the masked tokens of a row.

    Attributes:
        log_p (`FloatTensor` [A, K]): log-probabilities of the alternatives' tokens.
        top_log_p (`FloatTensor` [K]), top_token (`LongTensor` [K]): the most probable token of each position.
    """

    log_p: Tensor
    top_log_p: Tensor
    top_token: Tensor


@dataclass
class _Group:
    """Questions that share forward passes, and the readings so far."""

    questions: list[Question]
    masked: Tensor
    factors: Tensor
    exact: bool
    readings: list[Reading] = field(default_factory=list)

    def rows(self) -> list[MaskedRow]:
        alternatives = torch.tensor([question.response for question in self.questions])
        return [MaskedRow(self.questions[0].prompt, alternatives, masked) for masked in self.masked]

    def estimates(self) -> Iterator[tuple[Question, Estimate]]:
        sums_RA = torch.stack([reading.log_p.sum(1) for reading in self.readings]).double().cpu()
        for question, terms_R in zip(self.questions, (sums_RA * self.factors[:, None]).T, strict=True):
            top = self.readings[0].top_token.tolist()
            is_greedy = top == list(question.response) if len(question.response) == 1 else None
            yield question, Estimate(*estimate(terms_R.tolist(), self.exact), is_greedy)


class LikelihoodEstimator:
    """Estimates the likelihood of responses.

    Args:
        model: any model that works with the `generate` of `conv_dlm`. PEFT's wrapper is removed; its adapters stay.
        mask_token_id (`int`): id of the mask token, which itself has probability 0 (SUBS, arXiv 2406.07524).
        draws (`int`, *optional*, defaults to `128`): maskings per response, an even number.
        seed (`int`, *optional*, defaults to `0`): seed of the maskings.
        batch_size (`int`, *optional*, defaults to `1`): maskings per forward pass, of one question or several.
        guidance_scale (`float`, *optional*, defaults to `1.0`): classifier-free guidance as in `generate`; 1 is off.

    Raises:
        ValueError: `draws` is odd or below 2, or there is guidance with a model that sees block by block.
    """

    def __init__(
        self,
        model: Any,
        mask_token_id: int,
        draws: int = 128,
        seed: int = 0,
        batch_size: int = 1,
        guidance_scale: float = 1.0,
    ) -> None:
        # PEFT's wrapper hides which arguments `forward` takes; the adapters sit in the modules below it
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.mask_token_id, self.draws, self.seed = mask_token_id, draws, seed
        self.batch_size, self.guidance_scale = batch_size, guidance_scale
        maskings(1, draws, seed)  # raises for an odd number
        self.pattern: AttentionPattern = getattr(self.model, "attention_pattern", BIDIRECTIONAL)
        if isinstance(self.pattern, BlockCausal) and guidance_scale != 1:
            raise ValueError(
                f"`guidance_scale`={guidance_scale} is not supported for the likelihood under a model that sees block "
                "by block; drop it."
            )
        said = getattr(getattr(self.model, "generation_config", None), "shift_logits", None)
        self.shift_logits = bool(getattr(self.model, "shift_logits", False) if said is None else said)

    def estimates(self, questions: Iterable[Question], greedy: bool = False) -> Iterator[tuple[Question, Estimate]]:
        """Yield each distinct question with its estimate as soon as it is ready, longest first.

        Single-token responses to the same prompt, such as the letters of a multiple choice, share a forward pass.

        Args:
            questions (iterable of `Question`): duplicates are estimated once.
            greedy (`bool`, *optional*, defaults to `False`): whether to determine `is_greedy` too.
        """
        if not isinstance(self.pattern, BlockCausal):
            yield from self._estimates(questions, greedy)
            return
        length = self.pattern.block_length
        parts = {question: in_blocks(question, length, self.shift_logits) for question in dict.fromkeys(questions)}
        askers: dict[Question, list[Question]] = defaultdict(list)
        for question, its_parts in parts.items():
            for part in its_parts:
                askers[part].append(question)
        known: dict[Question, Estimate] = {}
        for part, answer in self._estimates(askers, greedy):
            known[part] = answer
            for question in askers[part]:
                if all(one in known for one in parts[question]):
                    yield question, total([known[one] for one in parts[question]])

    def _estimates(self, questions: Iterable[Question], greedy: bool) -> Iterator[tuple[Question, Estimate]]:
        by_length = sorted(dict.fromkeys(questions), key=lambda question: -question.length)
        together: dict[tuple[Any, ...], list[Question]] = defaultdict(list)
        for question in by_length:
            together[question.prompt, question.response if len(question.response) > 1 else None].append(question)
        checks = self.are_greedy(question for question in by_length if len(question.response) > 1)
        checked: dict[Question, bool] = {}
        for group in self._read_all(together.values()):
            for question, answer in group.estimates():
                if greedy and answer.is_greedy is None:
                    while question not in checked:
                        checked.update([next(checks)])
                    answer = replace(answer, is_greedy=checked.pop(question))
                yield question, answer

    def are_greedy(self, questions: Iterable[Question]) -> Iterator[tuple[Question, bool]]:
        """Whether decoding from the prompt gives the response, with one token per forward pass, the most certain first.

        This equals `generate` with `decode_type="llada"`, as many steps as tokens, temperature 0 and a canvas as long
        as the response; LLaDA's evaluation does the same. The first token that differs settles it.
        """
        for batch in batches(questions, self.batch_size):
            left = {question: torch.ones(len(question.response), dtype=torch.bool) for question in batch}
            results = dict.fromkeys(batch, True)
            while left:
                rows = [MaskedRow(q.prompt, torch.tensor([q.response]), masked) for q, masked in left.items()]
                for (question, masked), reading in zip(list(left.items()), self._read(rows), strict=True):
                    surest = int(reading.top_log_p.argmax())
                    place = int(masked.nonzero()[surest])
                    results[question] = int(reading.top_token[surest]) == question.response[place]
                    left[question] = masked.index_fill(0, torch.tensor([place]), False)
                left = {question: masked for question, masked in left.items() if results[question] and masked.any()}
            yield from results.items()

    def _read_all(self, together: Iterable[list[Question]]) -> Iterator[_Group]:
        """Yield each group of questions once all its maskings have been read."""

        def rows() -> Iterator[tuple[_Group, MaskedRow]]:
            for questions in together:
                seed = seed_of(questions[0], self.seed)
                group = _Group(questions, *maskings(len(questions[0].response), self.draws, seed))
                yield from ((group, row) for row in group.rows())

        for batch in batches(rows(), self.batch_size):
            for (group, _), reading in zip(batch, self._read([row for _, row in batch]), strict=True):
                group.readings.append(reading)
                if len(group.readings) == len(group.masked):
                    yield group

    @torch.no_grad()
    def _read(self, rows: Sequence[MaskedRow]) -> list[Reading]:
        """Run one forward pass."""
        responses = [row.alternatives[0].masked_fill(row.masked, self.mask_token_id).tolist() for row in rows]
        texts = [[*row.prompt, *response] for row, response in zip(rows, responses, strict=True)]
        ids_BL, mask_BL = pad_left(texts, self.mask_token_id)
        padding_BL, length = mask_BL == 0, ids_BL.shape[1]
        slot_BL = torch.full_like(ids_BL, -1)
        window_BW = torch.empty(len(rows), max(int(row.masked.sum()) for row in rows), dtype=torch.long)
        for index, row in enumerate(rows):
            start, places = length - len(row.masked), row.masked.nonzero().squeeze(1)
            slot_BL[index, start:] = torch.arange(len(row.masked))
            window_BW[index] = start + places[0]
            window_BW[index, : len(places)] = start + places
        device = canvas_device(self.model)
        ids_BL, padding_BL, slot_BL = ids_BL.to(device), padding_BL.to(device), slot_BL.to(device)
        masked_BL = (ids_BL == self.mask_token_id) & (slot_BL >= 0)
        canvas = Canvas.of(ids_BL, padding_BL, masked_BL, self.mask_token_id, slot_BL)
        padding = padding_BL if bool(padding_BL.any()) else None
        denoiser = Denoiser(self.model, padding, self.guidance_scale, self.shift_logits, pattern=self.pattern)
        logits_BWV = denoiser(canvas, None, window_BW.to(device))
        return [
            look_up(logits_WV[: int(row.masked.sum())], row.alternatives[:, row.masked])
            for row, logits_WV in zip(rows, logits_BWV, strict=True)
        ]


def look_up(logits_KV: Tensor, targets_AK: Tensor) -> Reading:
    """Look up log-probabilities, in float32, of the targets and of the most probable tokens."""
    count = max(1, CHUNK // logits_KV.shape[1])
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    chunks = zip(logits_KV.split(count), targets_AK.T.to(logits_KV.device).split(count), strict=True)
    for chunk_KV, targets_KA in chunks:
        scores_KV = chunk_KV.float()
        norm_K1 = scores_KV.logsumexp(1, keepdim=True)
        top_K, token_K = scores_KV.max(1)
        parts.append((scores_KV.gather(1, targets_KA) - norm_K1, top_K - norm_K1.squeeze(1), token_K))
    log_p_KA, top_log_p_K, top_token_K = (torch.cat(part) for part in zip(*parts, strict=True))
    return Reading(log_p_KA.T, top_log_p_K, top_token_K)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield `size` items at a time; the last batch may be smaller."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
