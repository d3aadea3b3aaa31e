"""The denoising loop: one for all decode types.

Each step asks the position weights where it may unmask, the denoiser what it would put there, and the unmasking rule
what is committed. A row whose canvas and wanted positions are as they were at its last forward needs none (the
ancestral cache, arXiv 2406.07524), a row that is finished leaves the forwards of the others.
Shapes: B rows, L canvas positions, R rows of a forward, W window, V vocabulary.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from conv_dlm.generation.assistant import Assistant
from conv_dlm.generation.attention import BlockCausal
from conv_dlm.generation.candidates import MEASURES, draws
from conv_dlm.generation.canvas import LENGTH, Canvas
from conv_dlm.generation.compiling import compiled
from conv_dlm.generation.denoiser import Denoiser
from conv_dlm.generation.drawing import BEST, Drawn, Draws, in_parts, measure, process
from conv_dlm.generation.errors import NotFiniteError
from conv_dlm.generation.extra import Extra
from conv_dlm.generation.noise import WHICH, Noise
from conv_dlm.generation.parts.assisted import AssistedRule
from conv_dlm.generation.parts.cache_policies import CachePolicy, CacheState, Situation
from conv_dlm.generation.parts.exits import ExitSchedule
from conv_dlm.generation.parts.position_weights import PositionWeights
from conv_dlm.generation.parts.rules import Decision, FixedStepsRule, Head, Statistics, StepState, UnmaskingRule
from conv_dlm.generation.parts.statistics import LastForwards, Places, Statistic
from conv_dlm.generation.past import Past
from conv_dlm.generation.plan import Forward, ForwardRequest, Plan, plan, positions_of, visible_end
from conv_dlm.generation.processors import CanvasProcessors
from conv_dlm.generation.schedule import AdaptiveSchedule, FixedSchedule, Step


@dataclass
class Denoising:
    """A run of the reverse process on a canvas.

    weights, rule: the decode type's parts.
    statistics: what the rule and the exit ask for beside the candidates' own measures.
    processors: what changes the scores first.
    eos_token_ids: LongTensor [E], None for no end tokens.
    eos_fill, eos_threshold, lookahead: see `RunSettings`.
    policy: what forwards compute anew, if the denoiser has a cache.
    past: keys and values of earlier calls, where the policy is exact; it gets those of this run.
    early_exit: when rows leave the process, if they may.
    constraint: the languages that rows have to be in (`conv_dlm.constraints.rows.RowConstraints`), if they have to.
    assistant: who reads the drafts of an `AssistedRule`.
    head: the weights of the rule's own.
    after_step: called with the run and the step's number after each step; returns whether to stop now. None where
        nobody watches, so that nothing is synchronised for it.
    """

    canvas: Canvas
    denoiser: Denoiser
    weights: PositionWeights
    rule: UnmaskingRule
    draws: Draws
    processors: CanvasProcessors
    statistics: Sequence[Statistic] = ()
    eos_token_ids: Tensor | None = None
    eos_fill: bool = False
    eos_threshold: float | None = None
    lookahead: int | None = None
    policy: CachePolicy | None = None
    past: Past | None = None
    early_exit: ExitSchedule | None = None
    constraint: Any = None
    assistant: Assistant | None = None
    head: Head | None = None
    after_step: Callable[["Denoising", int], bool] | None = None
    forwards: list[int] = field(init=False)

    def __post_init__(self) -> None:
        ids = self.canvas.ids
        first_end = self.rule.first_end(self.canvas)
        if first_end is not None:
            self.canvas.end_rows(first_end, LENGTH)
            self.canvas.varies = True
        self.last = self.rule.max_steps(self.canvas)
        if isinstance(self.rule, FixedStepsRule):
            blocks = self.weights.blocks(self.canvas)
            self.schedule: FixedSchedule | AdaptiveSchedule = FixedSchedule(self.rule.steps, blocks)
        else:
            self.schedule = AdaptiveSchedule(self.weights.current_block)
        self.memory = self.rule.start(self.canvas)
        # where tokens may still change; None for where they stay as soon as they are there
        self.open = self.canvas.mask_index >= 0 if self.rule.remasks else None
        self.forwards = [0] * ids.shape[0]
        self.sick = torch.zeros(1, dtype=torch.bool, device=ids.device)
        # what is known of each position by the last forward that predicted it
        self.token = torch.full_like(ids, self.canvas.mask_token_id)
        self.log_prob = torch.zeros(ids.shape, device=ids.device)
        self.values = Statistics()
        asked = {*self.rule.asks(), *(() if self.eos_threshold is None else ("confidence",))}
        self.measures = [name for name in MEASURES if name in asked]
        for name in self.measures:
            self.values[name] = torch.zeros(ids.shape, device=ids.device)
        self.predicted = torch.zeros_like(ids, dtype=torch.bool)
        self.extra_logits: Tensor | None = None
        self.remembers = any(statistic.remembers for statistic in self.statistics)
        self.wide = [name for statistic in self.statistics for name in statistic.wide]
        self.last_forwards = LastForwards(ids) if self.wide else None
        # canvas and wanted positions of each row at its last forward, and what its cache holds
        self.seen_ids = torch.full_like(ids, -1)
        self.seen_wanted = torch.zeros_like(ids, dtype=torch.bool)
        self.kept = CacheState.empty(ids)
        if self.past is not None:
            assert self.denoiser.cache is not None
            self.kept = self.kept._replace(ids=self.past.give(self.denoiser.cache, self.canvas, self.block_length))
        self.best_before: Tensor | None = None
        self.filling = False
        # the draw and the rule, compiled if the model is; of a class, so that all its rules share what was compiled
        self.measure = measure
        self.decide: Callable[[UnmaskingRule, StepState], Decision] = type(self.rule).__call__
        if self.denoiser.compile_config is not None:
            self.measure = compiled(measure, self.denoiser.compile_config)
            self.decide = compiled(self.decide, self.denoiser.compile_config)

    def run(self, seeds: Tensor) -> None:
        """Unmask every position of the canvas. seeds: LongTensor [B], of each row's draws."""
        self.noise = Noise(seeds, self.canvas.mask_index)
        self.steps_done = 0
        self.commit_forced(0)
        for index in itertools.count() if self.last is None else range(self.last):
            if self.step(index):
                break
            self.steps_done = index + 1
            if self.after_step is not None and self.after_step(self, index):
                break
        self.fill()
        if self.past is not None:
            assert self.denoiser.cache is not None
            self.past.take(
                self.denoiser.model, self.denoiser.cache, self.canvas, self.kept.ids, self.block_length
            )

    @property
    def block_length(self) -> int:
        """Of a model that sees block by block."""
        assert isinstance(self.denoiser.pattern, BlockCausal)
        return self.denoiser.pattern.block_length

    def step(self, index: int) -> bool:
        """One step of the reverse process. Returns whether nothing had been left to do."""
        canvas, step = self.canvas, self.schedule.step(index, self.canvas)
        now = self.state(step._replace(block=self.rule.block(canvas, self.memory, step.block)))
        now.memory = self.rule.begin(now)
        finished = self.rule.finished(now)
        request = self.request(now, finished)
        its_plan = plan(request)
        if its_plan.sick:
            self.check_finite()
        if not its_plan.unfinished:
            return True
        if self.denoiser.cache is not None and not self.denoiser.compiled and self.past is None:
            self.denoiser.cache.forget_all_but(its_plan.unfinished, canvas.ids.device)
        extra = self.rule.extra(now) if its_plan.forwards else None
        for forward in its_plan.forwards:
            self.predict(forward, request.end, index, self.draws, extra)
        if self.last_forwards is not None:
            self.last_forwards.renew()
        self.remember(its_plan, request, step)
        if any(self.forwards):  # else nothing is in reach, and nothing is known
            now.token, now.log_prob, now.find_fresh = self.token, self.log_prob, lambda: self.fresh(its_plan)
            now.extra_logits = self.extra_logits
            if self.assistant is not None:
                assert isinstance(self.rule, AssistedRule)
                now.assistant_logits = self.assistant(self.rule.draft(now), self.rule.places(now))
            self.leave_early(now)
            self.apply(self.decide(self.rule, now), finished, index)
            self.commit_forced(index)
        self.end_rows(index)
        return False

    def state(self, step: Step) -> StepState:
        """What the rule may look at before the step's forwards."""
        canvas = self.canvas
        weights = self.weights.weights(canvas, step)
        return StepState(
            canvas=canvas,
            step=step,
            weights=weights,
            scope=self.weights.scope(canvas, step),
            eligible=canvas.masked & (weights > 0),
            temperature=self.draws.temperature,
            noise=self.noise,
            noise_keys=self.noise.keys_of(step.number),
            memory=self.memory,
            token=self.token,
            log_prob=self.log_prob,
            statistics=self.values,
            find_fresh=lambda: torch.zeros_like(canvas.masked),
            end_token_ids=self.eos_token_ids,
            head=self.head,
            scope_length=self.weights.scope_length(canvas.ids.shape[1]),
            weigh=lambda other: self.weights.weights(other, step),
            shifted=self.denoiser.shift_logits,
            eos_fill=self.eos_fill,
        )

    def request(self, now: StepState, finished: Tensor) -> ForwardRequest:
        """The forward passes that this step needs."""
        canvas, wanted = self.canvas, self.rule.wants(now)
        changed = (canvas.ids != self.seen_ids) | (wanted ^ self.seen_wanted)
        end = self.visible_end(now, wanted)
        predicted = wanted if self.early_exit is None else wanted | canvas.masked
        request = ForwardRequest(finished, wanted, predicted, changed, end=end, sick=self.sick)
        if self.policy is None:
            return request
        text = canvas.constant("text", lambda: ~canvas.padding)
        read = wanted
        if self.denoiser.shift_logits:  # the logits of a position are its left neighbour's, which is computed too
            read = wanted | torch.nn.functional.pad(wanted[:, 1:], (0, 1)) & text  # but for a row's first position
        seen = text if end is None else canvas.seen(end)
        blocks, places = None, None
        if isinstance(self.denoiser.pattern, BlockCausal):
            at, size = canvas.block_positions, self.block_length
            blocks = canvas.constant("blocks", lambda: torch.where(canvas.padding, -1, at // size))
            places = canvas.constant("places", lambda: at % size)
        situation = Situation(
            canvas.ids, seen, read, now.scope, self.kept, now.step, blocks, places, canvas.masked
        )
        due, computed = self.policy.is_due(situation), self.policy.computed(situation)
        return request._replace(due=due, computed=computed, seen=seen)

    def visible_end(self, now: StepState, wanted: Tensor) -> Tensor | None:
        """LongTensor [B]: where each row's sight ends; None for where the canvas does."""
        canvas, pattern = self.canvas, self.denoiser.pattern
        if isinstance(pattern, BlockCausal):  # what follows the block of the last wanted position is seen by none
            first = canvas.start if canvas.before is None else canvas.start - canvas.before  # where blocks begin
            last = torch.where(wanted, canvas.positions, 0).amax(1)
            return torch.minimum(first + pattern.end_of_block(last - first), canvas.end)
        if (sight := self.rule.sight(now)) is not None:
            return torch.minimum(sight, canvas.end)
        if self.lookahead is not None:
            return visible_end(canvas, self.lookahead)
        return canvas.end if canvas.varies or self.eos_threshold is not None else None

    def remember(self, its_plan: Plan, request: ForwardRequest, step: Step) -> None:
        """What each row's last forward was of."""
        ids, rows = self.canvas.ids, its_plan.rows
        if not rows:
            return
        for row in rows:
            self.forwards[row] += 1
        took_part = self.are(rows)
        self.seen_ids = ids if took_part is None else torch.where(took_part, ids, self.seen_ids)
        wanted = request.wanted
        self.seen_wanted = wanted if took_part is None else torch.where(took_part, wanted, self.seen_wanted)
        if self.policy is not None:
            self.kept = self.kept_after(its_plan, request, step)

    def kept_after(self, its_plan: Plan, request: ForwardRequest, step: Step) -> CacheState:
        """What the cache holds after the forwards of a step."""
        ids, kept = self.canvas.ids, self.kept
        assert request.computed is not None and request.seen is not None
        for forward in its_plan.forwards:
            is_full = forward.computed is None
            anew = request.seen if is_full else request.computed
            rows = self.are(forward.rows)
            anew = anew if rows is None else anew & rows
            kept = kept._replace(ids=torch.where(anew, ids, kept.ids))
            if is_full and rows is None:
                kept = CacheState(kept.ids, torch.ones_like(kept.age), step.block)
            elif is_full:
                assert rows is not None
                kept = kept._replace(
                    age=torch.where(rows[:, 0], 1, kept.age), block=torch.where(rows[:, 0], step.block, kept.block)
                )
            else:
                kept = kept._replace(age=kept.age + (1 if rows is None else rows[:, 0].long()))
        return kept

    def are(self, rows: Sequence[int]) -> Tensor | None:
        """BoolTensor [B, 1]: which rows these are; None for all."""
        count = len(self.forwards)
        if len(rows) == count:
            return None
        index = self.denoiser.on_device(rows, self.canvas.ids.device)
        return self.canvas.constant(
            ("rows", *rows), lambda: torch.zeros_like(self.canvas.masked[:, :1]).index_fill(0, index, True)
        )

    def fresh(self, its_plan: Plan) -> Tensor:
        """BoolTensor [B, L]: what the forwards of a step predicted."""
        found = torch.zeros_like(self.canvas.masked)
        for forward in its_plan.forwards:
            rows = self.are(forward.rows)
            found = found | (forward.predicted if rows is None else forward.predicted & rows)
        return found

    def predict(self, forward: Forward, end: Tensor | None, step: int, how: Draws, extra: Extra | None = None) -> None:
        """Renew what is known at the positions that the `forward` predicts, with the rows' `end` [B] of sight, and what
        the rule asked for beside the canvas."""
        canvas, denoiser = self.canvas, self.denoiser
        rows: list[int] | None = None if len(forward.rows) == len(self.forwards) else forward.rows
        active = None
        if denoiser.compiled and rows is not None:  # for one number of rows only: the others are computed in vain
            which = self.are(rows)
            assert which is not None
            active, rows = which[:, 0], None
        which = None if rows is None else denoiser.on_device(rows, canvas.ids.device)

        def places(where: Tensor, size: int) -> Tensor:
            found = positions_of(where if which is None else where[which], size)
            return found if active is None else found.clamp(min=0)  # of a row that has none

        window = places(forward.predicted, forward.window)
        positions = None if forward.computed is None else places(forward.computed, forward.size)
        seen = canvas.seen(end) if forward.uneven and end is not None else None
        if extra is not None and which is not None:
            extra = extra.of(which)
        logits = denoiser(canvas, rows, window, seen, forward.end, positions, active, extra)
        if extra is not None:
            logits, beside = logits.split([window.shape[1], logits.shape[1] - window.shape[1]], 1)
            self.extra_logits = self._renewed_rows(self.extra_logits, beside, which, active)
        candidates, values = self._draw(logits, which, window, step, how)
        # of NaN, of +inf and of nothing but -inf the log-probability is NaN, whatever the rule
        nothing = candidates.log_prob.isnan().view(window.shape)
        self.sick = self.sick | (nothing if active is None else nothing & active[:, None]).any()

        row = None if which is None else which[:, None]
        if self.last_forwards is not None:
            here = torch.arange(len(window), device=window.device)[:, None] if row is None else row
            self.last_forwards.add(here, window, active, {name: values.pop(name) for name in self.wide})

        def renewed(old: Tensor | None, new: Tensor) -> Tensor:
            new = new.view(*window.shape, *new.shape[1:])
            if old is None:
                old = new.new_zeros(*canvas.ids.shape, *new.shape[2:])
            if new.dim() == 2 and row is None and active is None:
                return old.scatter(1, window, new)
            cells = (torch.arange(len(new), device=new.device)[:, None] if row is None else row, window)
            if active is not None:
                new = torch.where(active.view(-1, *[1] * (new.dim() - 1)), new, old[cells])
            return old.index_put(cells, new)

        self.token = renewed(self.token, candidates.token)
        self.log_prob = renewed(self.log_prob, candidates.log_prob)
        measures: dict[int, Tensor] = {}  # of one candidate they are one and the same
        for name in self.measures:
            measure = getattr(candidates, name)
            if id(measure) not in measures:
                measures[id(measure)] = renewed(self.values[name], measure)
            self.values[name] = measures[id(measure)]
        for name, value in values.items():
            self.values[name] = renewed(self.values.get(name), value)
        if self.remembers:
            self.predicted = renewed(self.predicted, torch.ones_like(window, dtype=torch.bool).flatten())

    def check_finite(self) -> None:
        """Raise NotFiniteError if a forward left nothing to choose from."""
        if bool(self.sick):
            raise NotFiniteError(
                "No token can be chosen: the model's logits, or the scores that `logits_processor` and "
                "`suppress_tokens` leave of them, are NaN or infinite. Look at the checkpoint's weights, and load it "
                "in bfloat16 or float32 if it overflows."
            )

    def _renewed_rows(self, old: Tensor | None, new: Tensor, which: Tensor | None, active: Tensor | None) -> Tensor:
        """[B, ...]: `new` [R, ...] in the rows of a forward, `old` in the others."""
        if which is None and (active is None or old is None):
            return new
        if old is None:
            old = new.new_zeros(len(self.forwards), *new.shape[1:])
        if which is not None:
            return old.index_put((which,), new)
        assert active is not None
        return torch.where(active.view(-1, *[1] * (new.dim() - 1)), new, old)

    def _draw(self, logits: Tensor, which: Tensor | None, window: Tensor, step: int, how: Draws) -> Drawn:
        """Candidates and statistics of all window positions, flattened to [R * W]; only a part of them is wide in
        float32 at a time."""
        noise = None
        if draws(how.top_k, how.temperature):
            noise = self.noise.uniform(step, WHICH)
            noise = (noise if which is None else noise[which]).gather(1, window).flatten()
        rows, flat = which, logits.flatten(0, 1)
        if rows is None and (self.processors or self.statistics or self.constraint is not None):
            rows = torch.arange(window.shape[0], device=window.device)

        def draw(part: slice) -> Drawn:
            scores, at = flat[part], None
            if rows is not None:
                at = Places(rows, window, part, step, self.values, self.predicted, self.last_forwards)
                if self.constraint is not None or self.processors:
                    scores = process(scores.float(), at, self.canvas, self.processors, self.constraint)
            drawn, values = self.measure(scores, self.statistics, at, how, None if noise is None else noise[part])
            if at is not None and self.constraint is not None:
                values |= self.constraint.summary(scores, at, how.top_k, how.temperature, self.noise)
            return drawn, values

        return in_parts(flat, draw)

    def commit(
        self, where: Tensor, tokens: Tensor, log_probs: Tensor, index: int, remask: Tensor | None = None
    ) -> None:
        """Unmask `where` [B, L] with `tokens`, or with others that a constraint can be met by."""
        if self.constraint is not None:
            drawn = draws(self.draws.top_k, self.draws.temperature) and not self.filling
            noise = self.noise.again(index, WHICH) if drawn else None
            tokens, log_probs = self.constraint.settle(
                self.canvas, where, tokens, log_probs, self.values, noise, remask
            )
        self.canvas.commit(where, tokens, index, log_probs)

    def commit_forced(self, index: int) -> None:
        """Unmask what a constraint leaves one token for, without asking the model."""
        if self.constraint is not None and not self.rule.remasks:
            what = self.constraint.allowed(self.canvas)
            self.canvas.commit(what.forced & self.canvas.masked, what.tokens, index)

    def leave_early(self, now: StepState) -> None:
        """Cut the text off where its end is clear among the eligible positions, and unmask what is left of a row where
        all of it is."""
        canvas, step = self.canvas, now.step
        if self.eos_threshold is not None and self.eos_token_ids is not None:
            ends = torch.isin(self.token, self.eos_token_ids) & now.eligible
            sure = ends & (self.values["confidence"] >= self.eos_threshold)
            canvas.cut_after(sure, self.eos_token_ids, step.number)
        if self.early_exit is not None:
            best, margin = self.values["best"], self.values["margin"]
            clear = self.early_exit.is_clear(margin, best, self.best_before, canvas.masked, step.progress)
            self.best_before = best
            self.commit(clear[:, None] & canvas.masked, best, self.values["best_log_prob"], step.number)

    def apply(self, decision: Decision, finished: Tensor, index: int) -> None:
        """Do what the rule says."""
        commit, remask = decision.commit, decision.remask
        if self.rule.remasks:  # a finished row changes no more
            commit = commit & ~finished[:, None]
            remask = None if remask is None else remask & ~finished[:, None]
        tokens, log_probs = decision.tokens, decision.log_probs
        if tokens is None:
            tokens, log_probs = self.token, self.log_prob
        elif log_probs is None:
            log_probs = torch.full_like(self.log_prob, torch.nan)
        assert log_probs is not None
        if decision.end is not None:
            self.canvas.extend(decision.end)
        self.commit(commit, tokens, log_probs, index, remask)
        if remask is not None:
            self.canvas.remask(remask)
        if decision.moved is not None:
            self.move(decision.moved)
        self.memory = decision.memory
        if self.rule.remasks:
            self.open = self.canvas.mask_index >= 0 if decision.open is None else decision.open

    def move(self, source: Tensor) -> None:
        """Let each position take over what is at its `source` [B, L], and all that is known of it. What a cache keeps
        stays with its position; and what is known, where the row's canvas is again that of its last forward."""
        self.canvas.move(source)
        again = (self.canvas.ids == self.seen_ids).all(1, keepdim=True)
        source = torch.where(again, self.canvas.positions, source)

        def moved(x: Tensor) -> Tensor:
            return x.gather(1, source.view(*source.shape, *[1] * (x.dim() - 2)).expand_as(x))

        self.token, self.log_prob, self.predicted = moved(self.token), moved(self.log_prob), moved(self.predicted)
        for name, values in self.values.items():
            self.values[name] = moved(values)
        if self.last_forwards is not None:
            self.last_forwards.slot = moved(self.last_forwards.slot)

    def end_rows(self, step: int) -> None:
        """What follows from an end token: EOS-fill if asked for, else nothing until the text before it is complete."""
        if self.eos_token_ids is None:
            return
        if self.eos_fill:
            self.canvas.fill_after_end(self.eos_token_ids, step, only_finished=False)
        else:
            self.canvas.fill_after_end(self.eos_token_ids, step, only_finished=True, open_=self.open)

    def fill(self) -> None:
        """Unmask what is left, out of the weights' reach for instance, with the best tokens: one forward, if any."""
        canvas, left, self.open = self.canvas, self.canvas.masked, None
        number = self.steps_done if self.last is None else self.last
        end = canvas.end if canvas.varies or self.eos_threshold is not None else None
        request = ForwardRequest(~left.any(1), left, left, left, end=end)
        its_plan = plan(request)
        for forward in its_plan.forwards:
            self.predict(forward, end, number, BEST)
        for row in its_plan.rows:
            self.forwards[row] += 1
        self.filled_at = number
        if its_plan.forwards:
            self.filling = True
            self.commit(left, self.token, self.log_prob, number)
            self.end_rows(number)
        self.check_finite()
