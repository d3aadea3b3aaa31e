"""The denoising loop: one for all decode types.

Each step asks the position weights where it may decide, the denoiser what it would put there, and the unmasking rule
what is decided. A row whose canvas and window are as they were at its last forward needs none (the ancestral cache,
arXiv 2406.07524). Suffixes: B rows, L canvas positions, R rows of a forward, W window, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from conv_dlm.generation import noise
from conv_dlm.generation.candidates import Candidates, draw_candidates
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.configuration import DiffusionGenerationConfig
from conv_dlm.generation.denoiser import Denoiser
from conv_dlm.generation.position_weights import PositionWeights
from conv_dlm.generation.schedule import Schedule
from conv_dlm.generation.unmasking_rules import AncestralRule, ConfidenceRule, Situation

# vocabulary scores held in fp32 at a time, whatever the canvas: what a CPU's cache holds (twice as fast as 64 MB in a
# measurement on two cores), elsewhere enough for a few launches
SCORES_AT_ONCE = {"cpu": 1 << 20}
SCORES_AT_ONCE_ELSEWHERE = 1 << 24
WINDOW_GRANULARITY = 16  # windows are rounded up, so that the forward sees few different shapes


@dataclass
class Denoising:
    """A run of the reverse process on a canvas.

    after_step: called with (canvas, candidates, step index) after each step; returns whether to stop now. None where
        nobody watches, so that nothing is synchronised for it.
    """

    canvas: Canvas
    denoiser: Denoiser
    weights: PositionWeights
    rule: AncestralRule | ConfidenceRule
    config: DiffusionGenerationConfig
    processors: LogitsProcessorList
    eos_token_ids: Tensor | None
    seeds: Tensor
    after_step: Callable[[Canvas, Candidates, int], bool] | None = None

    def __post_init__(self) -> None:
        shape, device = self.canvas.ids.shape, self.canvas.ids.device
        nothing = torch.zeros(shape, device=device)
        no_token = torch.full_like(self.canvas.ids, self.canvas.mask_token_id)
        self.candidates = Candidates(no_token, nothing, nothing, nothing)
        self.forwards = torch.zeros(shape[0], dtype=torch.long, device=device)
        self.schedule = Schedule(self.config.steps, self.weights.blocks(self.canvas))
        # canvas and window of each row at its last forward
        self.seen_ids = torch.full_like(self.canvas.ids, -1)
        self.seen_window = torch.zeros(shape, dtype=torch.bool, device=device)
        # a revocable rule's last step is the final fill, so that no token is masked again after it
        self.last = self.config.steps - self.rule.revocable

    def run(self) -> Tensor:
        """Decide every position of the canvas. Returns the number of forwards of each row, LongTensor [B]."""
        for index in range(self.last):
            finished = self.step(index)
            stop = self.after_step is not None and self.after_step(self.canvas, self.candidates, index)
            if finished or stop:
                break
        self.fill()
        return self.forwards

    def step(self, index: int) -> bool:
        """One step of the reverse process. Returns whether nothing had been left to do."""
        canvas, step = self.canvas, self.schedule[index]
        weights = self.weights.weights(canvas, step)
        eligible = canvas.undecided & (weights > 0)
        stale = ((canvas.ids != self.seen_ids) | (eligible != self.seen_window)).any(1) & eligible.any(1)
        # the step's one synchronisation with the device
        window_sizes, undecided = torch.stack([eligible.sum(1) * stale, canvas.undecided.sum(1)]).tolist()
        if not (any(undecided) or self.rule.revocable):
            return True
        self.predict(eligible, window_sizes, index, self.config.top_k, self.config.temperature)
        self.seen_ids = torch.where(stale[:, None], canvas.ids, self.seen_ids)
        self.seen_window = torch.where(stale[:, None], eligible, self.seen_window)
        scope = self.weights.scope(canvas, step)
        decision = self.rule(Situation(canvas, self.candidates, weights, scope, step, self.seeds))
        canvas.commit(decision.commit, self.candidates.token, index)
        if decision.remask is not None:
            canvas.remask(decision.remask)
        self.end_rows(index)
        return False

    def predict(self, eligible: Tensor, window_sizes: list[int], step: int, top_k: int, temperature: float) -> None:
        """Renew the candidates at the `eligible` positions [B, L] of the rows whose window size is not 0."""
        needed = [row for row, size in enumerate(window_sizes) if size]
        if not needed:
            return
        length, device = eligible.shape[1], eligible.device
        rows = None if len(needed) == len(window_sizes) else torch.tensor(needed, device=device)
        size = min(length, -(-max(window_sizes) // WINDOW_GRANULARITY) * WINDOW_GRANULARITY)
        # the eligible positions first, in order; what follows only fills up the window
        wanted = eligible if rows is None else eligible[rows]
        window = wanted.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :size]
        logits = self.denoiser(self.canvas, rows, window)
        row_index = torch.arange(eligible.shape[0], device=device) if rows is None else rows
        self.forwards[row_index] += 1
        drawn = self._draw(logits, row_index, window, step, top_k, temperature)
        cells = (row_index[:, None], window)
        renewed = (
            old.index_put(cells, new.view(window.shape)) for old, new in zip(self.candidates, drawn, strict=True)
        )
        self.candidates = Candidates(*renewed)

    def _draw(
        self, logits: Tensor, rows: Tensor, window: Tensor, step: int, top_k: int, temperature: float
    ) -> Candidates:
        """Candidates of all window positions, flattened to [R * W]; only a part of them is wide in fp32 at a time."""
        uniform = noise.uniform(self.seeds, step, self.canvas.slot, noise.WHICH)[rows[:, None], window].flatten()
        flat = logits.flatten(0, 1)
        context = rows.repeat_interleave(window.shape[1])
        # processors see text only: padding would count as tokens
        ids = self.canvas.ids.masked_fill(self.canvas.padding, self.canvas.mask_token_id)
        end_token_ids = self.eos_token_ids if self.config.confidence_eos_eot_inf else None
        at_once = max(1, SCORES_AT_ONCE.get(flat.device.type, SCORES_AT_ONCE_ELSEWHERE) // flat.shape[1])
        parts = []
        for start in range(0, flat.shape[0], at_once):
            chunk = slice(start, start + at_once)
            scores = flat[chunk].float()
            if self.processors:
                scores = self.processors(ids[context[chunk]], scores)  # type: ignore[arg-type]
            parts.append(
                draw_candidates(
                    scores,
                    top_k,
                    temperature,
                    uniform[chunk],
                    int(self.config.reference_normalizer),
                    end_token_ids,
                )
            )
        return Candidates(*(torch.cat(field) for field in zip(*parts, strict=True)))

    def end_rows(self, step: int) -> None:
        """What follows from an end token: EOS-fill if asked for, else nothing until the text before it is complete."""
        if self.eos_token_ids is None:
            return
        if self.config.eos_fill:
            self.canvas.fill_after_end(self.eos_token_ids, step, only_finished=False)
        elif not self.rule.revocable:
            self.canvas.fill_after_end(self.eos_token_ids, step, only_finished=True)

    def fill(self) -> None:
        """Decide what is left, out of the weights' reach for instance, with the best tokens: one forward, if any."""
        left = self.canvas.undecided
        self.predict(left, left.sum(1).tolist(), self.last, top_k=1, temperature=0.0)
        self.canvas.commit(left, self.candidates.token, self.last)
        self.end_rows(self.last)
