"""A rule that tries several next tokens at once. Shapes: B rows, L canvas positions, D branches, W masks of a row."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.extra import Extra, branches
from conv_dlm.generation.parts.lossless import Known, known_of_branches, on_branch
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, StepState, best_per_row
from conv_dlm.generation.parts.several_blocks import D2fRule, Flight
from conv_dlm.generation.settings import setting


class Ahead(NamedTuple):
    """What the rule remembers.

    flights: the blocks that are in flight on the canvas, in a step behind those of each branch.
    places: LongTensor [B, W]; positions that were masks at first, -1 where there are fewer.
    ids: LongTensor [B, D, L]; the branches, each the canvas with one token more.
    score: FloatTensor [B, D]; how sure the model was of that token.
    log_prob: FloatTensor [B, D]; its log-probability.
    there: BoolTensor [B, D]; which branches there are.
    """

    flights: tuple[Flight, ...]
    places: Tensor
    ids: Tensor
    score: Tensor
    log_prob: Tensor
    there: Tensor


@UNMASKING_RULES.register("lopa")
@dataclass(frozen=True)
class LopaRule(D2fRule):
    """LoPA (zhijie-group/LoPA): beside the canvas, each forward computes branches that have one token more, one of the
    surest that `d2f` left masked. The canvas or branch whose open masks the model is surest of is the next canvas, and
    unmasks what `d2f` does there."""

    greedy = True
    own_scores = True
    branching_factor: int = setting(
        2, "branches beside the canvas, each with another one of its surest tokens", low=1,
        source="LoPA's released code",
    )  # fmt: skip
    branch_share: float = setting(
        0.5, "share of a branch's open masks, the least sure ones, by which it is judged", low=0, high=1,
        source="LoPA's released code",
    )  # fmt: skip
    branch_memory: float = setting(
        0.5, "alpha: how much it counts for a branch how sure its own token was, 1 for the canvas", low=0, high=1,
        source="LoPA's released code",
    )  # fmt: skip

    def start(self, canvas: Canvas) -> Ahead:
        flights = (self.flight_at_first(canvas),)
        places = torch.where(canvas.mask_index >= 0, canvas.positions, -1).topk(max(1, int(canvas.size.max()))).values
        none = torch.zeros(len(places), self.branching_factor, device=places.device)
        ids = canvas.ids[:, None].expand(-1, self.branching_factor, -1)
        return Ahead(flights, places, ids, none, none, none > 0)

    def begin(self, now: StepState) -> Ahead:
        its, unknown = now.memory, Known(now.token, now.log_prob, {})
        states = [on_branch(now, ids, unknown) for ids in its.ids.unbind(1)]
        return its._replace(flights=tuple(self.next_flight(state, its.flights[-1]) for state in [*states, now]))

    def flight(self, now: StepState) -> Flight:
        assert isinstance(now.memory, Ahead)
        return now.memory.flights[-1]

    def extra(self, now: StepState) -> Extra:
        its = now.memory
        ends = torch.stack([self.end_of_flight(now.canvas, flight) for flight in its.flights[:-1]], 1)
        wanted = its.places.clamp(min=0)[:, None].expand(-1, self.branching_factor, -1)
        return branches(now.canvas, its.ids, wanted, ends, now.shifted)

    def open_masks(self, now: StepState, flight: Flight) -> Tensor:
        """BoolTensor [B, L]: what may be unmasked in opened blocks."""
        return now.eligible & (self.blocks(now.canvas) < flight.opened[:, None])

    def sureness(self, now: StepState, flight: Flight) -> Tensor:
        """FloatTensor [B]: mean certainty of the open masks that it is least sure of; 1 where none is left."""
        open_, certainty = self.open_masks(now, flight), self.weighted(now)
        count = (open_.sum(1).double() * self.branch_share).floor().long().clamp(min=1)
        least = best_per_row(-certainty, open_, count)
        return torch.where(open_.any(1), torch.where(least, certainty, 0.0).sum(1) / count, 1.0)

    def __call__(self, now: StepState) -> Decision:
        its = now.memory
        canvases = [*its.ids.unbind(1), now.canvas.ids]
        known = [*known_of_branches(now, its.places, self.asks()), Known(now.token, now.log_prob, now.statistics)]
        states = [on_branch(now, ids, what) for ids, what in zip(canvases, known, strict=True)]
        sure = torch.stack([self.sureness(*pair) for pair in zip(states, its.flights, strict=True)], 1)
        created = torch.nn.functional.pad(its.score, (0, 1), value=1.0)
        going = now.canvas.masked.any(1, keepdim=True)
        there = torch.nn.functional.pad(its.there & going, (0, 1), value=True)
        judged = self.branch_memory * created + (1 - self.branch_memory) * sure
        won = best_per_row(judged, there, torch.ones_like(now.canvas.size))

        def winners(values: list[Tensor]) -> Tensor:
            cells = won.int().argmax(1).view(-1, 1, *[1] * (values[0].dim() - 1))
            return torch.stack(values, 1).take_along_dim(cells, 1)[:, 0]

        best = Known(
            winners([one.token for one in known]), winners([one.log_prob for one in known]),
            {name: winners([one.statistics[name] for one in known]) for name in known[0].statistics},
        )  # fmt: skip
        flight = Flight(winners([one.opened for one in its.flights]), winners([one.full for one in its.flights]))
        state = on_branch(now, winners(canvases), best)
        commit = self.commits(state, flight)
        reached = torch.where(commit, best.token, state.canvas.ids)
        first = torch.where(won[:, :-1], its.log_prob, 0.0).sum(1, keepdim=True)  # of the token that made the branch
        log_probs = torch.where(commit, best.log_prob, first)
        return Decision(
            now.canvas.masked & (reached != now.canvas.ids), tokens=reached, log_probs=log_probs,
            memory=self.branch_off(state, flight, commit, reached, its.places),
        )  # fmt: skip

    def branch_off(self, now: StepState, flight: Flight, commit: Tensor, ids: Tensor, places: Tensor) -> Ahead:
        """The branches of the next step: `ids` [B, L], each with one of the surest tokens that were left masked."""
        left, certainty = self.open_masks(now, flight) & ~commit, self.weighted(now)
        order = certainty.masked_fill(~left, -torch.inf).argsort(dim=1, descending=True, stable=True)
        at = order[:, : self.branching_factor]
        at = torch.nn.functional.pad(at, (0, self.branching_factor - at.shape[1]))
        there = left.gather(1, at) & (torch.arange(at.shape[1], device=at.device) < left.sum(1, keepdim=True))
        branch = ids[:, None].expand(-1, at.shape[1], -1)
        token = torch.where(there, now.token.gather(1, at), ids.gather(1, at))
        branch = branch.scatter(2, at[..., None], token[..., None])
        return Ahead((flight,), places, branch, certainty.gather(1, at), now.log_prob.gather(1, at), there)
