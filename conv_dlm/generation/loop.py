"""The denoising loop: one for all decode types.

Each step asks the position weights where it may decide, the denoiser what it would put there, and the unmasking rule
what is decided. A row whose canvas and window are as they were at its last forward needs none (the ancestral cache,
arXiv 2406.07524), a row that is finished leaves the forwards of the others.
Suffixes: B rows, L canvas positions, R rows of a forward, W window, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from conv_dlm.cost.generating import SCORES_AT_ONCE, SCORES_AT_ONCE_ELSEWHERE
from conv_dlm.generation.cache_policies import CachePolicy, Kept
from conv_dlm.generation.candidates import Candidates, draw_candidates
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.configuration import DiffusionGenerationConfig
from conv_dlm.generation.denoiser import Denoiser
from conv_dlm.generation.early_exit import EarlyExit
from conv_dlm.generation.noise import WHICH, uniform
from conv_dlm.generation.plan import Demand, Forward, plan, positions_of, repeated, sight
from conv_dlm.generation.position_weights import PositionWeights
from conv_dlm.generation.schedule import OwnPace, Schedule, Step
from conv_dlm.generation.unmasking_rules import Situation, UnmaskingRule


@dataclass
class Denoising:
    """A run of the reverse process on a canvas.

    policy: what forwards compute anew, if the denoiser has a cache.
    early_exit: when rows leave the process, if they may.
    after_step: called with (canvas, candidates, step index) after each step; returns whether to stop now. None where
        nobody watches, so that nothing is synchronised for it.
    """

    canvas: Canvas
    denoiser: Denoiser
    weights: PositionWeights
    rule: UnmaskingRule
    config: DiffusionGenerationConfig
    processors: LogitsProcessorList
    eos_token_ids: Tensor | None
    seeds: Tensor
    policy: CachePolicy | None = None
    early_exit: EarlyExit | None = None
    after_step: Callable[[Canvas, Candidates, int], bool] | None = None

    def __post_init__(self) -> None:
        ids = self.canvas.ids
        self.candidates = Candidates.none(ids, self.canvas.mask_token_id)
        self.measures = self.rule.measures | (self.early_exit.measures if self.early_exit else frozenset())
        self.forwards = torch.zeros(ids.shape[0], dtype=torch.long, device=ids.device)
        if self.rule.paced:
            self.schedule: Schedule | OwnPace = Schedule(self.config.steps, self.weights.blocks(self.canvas))
        else:
            self.schedule = OwnPace(int(self.canvas.size.max()), self.weights)
        # canvas and window of each row at its last forward
        self.seen_ids = torch.full_like(ids, -1)
        self.seen_window = torch.zeros_like(ids, dtype=torch.bool)
        self.kept = Kept.nothing(ids)
        # a revocable rule's last step is the final fill, so that no token is masked again after it
        self.last = self.schedule.steps - self.rule.revocable

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
        canvas, step = self.canvas, self.schedule.step(index, self.canvas)
        weights, scope = self.weights.weights(canvas, step), self.weights.scope(canvas, step)
        demand = self.demand(canvas.undecided & (weights > 0), scope, step)
        forwards, unfinished = plan(demand, canvas)
        if not (unfinished or self.rule.revocable):
            return True
        if self.denoiser.cache is not None and not (self.rule.revocable or self.denoiser.compiled):
            self.denoiser.cache.forget_all_but(unfinished)
        for forward in forwards:
            self.predict(forward, index, self.config.top_k, self.config.temperature)
        self.remember(demand, step)
        self.leave_early(demand.eligible, step)
        decision = self.rule(Situation(canvas, self.candidates, weights, scope, step, self.seeds))
        canvas.commit(decision.commit, self.candidates.token, index)
        if decision.remask is not None:
            canvas.remask(decision.remask)
        self.end_rows(index)
        return False

    def demand(self, eligible: Tensor, scope: Tensor, step: Step) -> Demand:
        """What a step that may decide the `eligible` positions [B, L] of its `scope` [B, L] wants of the model."""
        canvas = self.canvas
        stale = ((canvas.ids != self.seen_ids) | (eligible != self.seen_window)).any(1) & eligible.any(1)
        end = canvas.end if self.config.horizon is None else sight(canvas, self.config.horizon)
        predicted = canvas.undecided if self.early_exit is not None else eligible
        if self.policy is None:
            return Demand(stale, stale & False, predicted, eligible, eligible, end)
        # where the logits of a position are its left neighbour's, that one is computed too
        read = eligible | eligible.roll(-1, dims=1) if self.denoiser.shift_logits else eligible
        seen = canvas.seen(end)
        computed = self.policy.computed(canvas.ids, seen, read, scope, self.kept)
        # a forward over most of what is in sight costs about as much as one over all of it
        due = self.policy.is_due(self.kept, step) | (2 * computed.sum(1) > seen.sum(1))
        return Demand(stale & due, stale & ~due, predicted, eligible, computed, end)

    def remember(self, demand: Demand, step: Step) -> None:
        """What each row's last forward was of."""
        ids, row = self.canvas.ids, demand.full | demand.partial
        self.forwards = self.forwards + row
        self.seen_ids = torch.where(row[:, None], ids, self.seen_ids)
        self.seen_window = torch.where(row[:, None], demand.eligible, self.seen_window)
        if self.policy is not None:
            seen = self.canvas.seen(demand.end)
            self.kept = self.kept.after(ids, seen, demand.computed, demand.full, demand.partial, step.block)

    def predict(self, forward: Forward, step: int, top_k: int, temperature: float) -> None:
        """Renew the candidates at the positions that the `forward` predicts."""
        canvas, rows = self.canvas, forward.rows
        if self.denoiser.compiled:  # for one number of rows only
            rows = repeated(rows, canvas.ids.shape[0])
        row_index = torch.tensor(rows, device=canvas.ids.device)
        window = positions_of(forward.predicted[row_index], forward.window)
        positions = None if forward.computed is None else positions_of(forward.computed[row_index], forward.size)
        logits = self.denoiser(canvas, rows, window, forward.seen, forward.end, positions)
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
        draws = uniform(self.seeds, step, self.canvas.slot, WHICH)[rows[:, None], window].flatten()
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
                    draws[chunk],
                    int(self.config.reference_normalizer),
                    end_token_ids,
                    self.measures,
                )
            )
        return Candidates(*(torch.cat(field) for field in zip(*parts, strict=True)))

    def leave_early(self, eligible: Tensor, step: Step) -> None:
        """Cut the text off where its end is clear among the `eligible` positions [B, L], and decide what is left of a
        row where all of it is."""
        canvas = self.canvas
        if self.config.eos_threshold is not None and self.eos_token_ids is not None:
            ends = torch.isin(self.candidates.token, self.eos_token_ids) & eligible
            sure = ends & (self.candidates.confidence >= self.config.eos_threshold)
            canvas.cut_after(sure, self.eos_token_ids, step.number)
        if self.early_exit is not None:
            clear = self.early_exit(self.candidates, canvas.undecided, step.progress)
            canvas.commit(clear[:, None] & canvas.undecided, self.candidates.best, step.number)

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
        canvas, left = self.canvas, self.canvas.undecided
        needed = left.any(1)
        forwards, _ = plan(Demand(needed, needed & False, left, left, left, canvas.end), canvas)
        for forward in forwards:
            self.predict(forward, self.last, top_k=1, temperature=0.0)
        self.forwards = self.forwards + needed
        canvas.commit(left, self.candidates.token, self.last)
        self.end_rows(self.last)
