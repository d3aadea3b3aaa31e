"""A rule that rewrites, deletes and inserts. Shapes: B rows, L canvas positions, T forwards, K candidates."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.parts.confidence import ThresholdRule
from conv_dlm.generation.parts.editing import EditingRule
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, StepState, UnmaskingRule, best_per_row, in_block
from conv_dlm.generation.parts.statistics import STATISTICS, Places, Statistic
from conv_dlm.generation.settings import setting

CANDIDATES = 64  # of a position, of which the best that was not written there yet may be asked for
NOTHING = -1


@STATISTICS.register("ranking")
@dataclass(frozen=True)
class Ranking(Statistic):
    """The most likely tokens, `ranked`, and their log-probabilities, `ranked_log_probs`, both [N, K]."""

    def __call__(self, scores: Tensor, at: Places) -> dict[str, Tensor]:
        top = scores.topk(min(CANDIDATES, scores.shape[-1]), dim=-1)
        return {"ranked": top.indices, "ranked_log_probs": top.values - scores.logsumexp(-1, keepdim=True)}


class Slots(NamedTuple):
    """What the rule remembers of the block that each row is at.

    block: LongTensor [B].
    open: BoolTensor [B, L]; its positions, until it is done.
    original: BoolTensor [B, L]; masks that were there at its start, and the tokens that took their places.
    seen, written: LongTensors [B, T, L]; what stood at a position before each forward, and what was written after it.
    forwards, post: LongTensors [B]; forwards made; those before which no original mask was left.
    """

    block: Tensor
    open: Tensor
    original: Tensor
    seen: Tensor
    written: Tensor
    forwards: Tensor
    post: Tensor


def moves(its: Tensor, delete: Tensor, split: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where each position takes its token from, when positions of `its` block are deleted, or get a mask before them.

    Returns LongTensor [B, L], the sources; BoolTensor [B, L], positions with a new mask; and those whose token goes, by
    deletion or over the block's end. All masks that are new come from one of these, which has to be masked before.
    """
    length = its.shape[1]
    place = torch.arange(length, device=its.device).expand_as(its)
    slot = its.cumsum(1) - 1
    taken = torch.where(its, 1 + split.long() - delete.long(), 0)
    target = taken.cumsum(1) - 1  # of a position's own token, behind the mask before it
    gone = its & (delete | (target >= its.sum(1, keepdim=True)))
    source = torch.full_like(place, NOTHING)
    source = torch.nn.functional.pad(source, (0, 1)).scatter(1, torch.where(its & ~gone, target, length), place)
    source = source[:, :-1].gather(1, slot.clamp(min=0))
    new = its & (source == NOTHING)
    spare = gone.int().argmax(1, keepdim=True)
    return torch.where(new, spare, torch.where(its, source, place)), new, gone


@UNMASKING_RULES.register("editing_indel")
@dataclass(frozen=True)
class IndelRule(UnmaskingRule):
    """Token editing with insertion and deletion, as LLaDA2.2 has it: `editing`, in which `delete_token_id` as a
    prediction takes a position out of the block, and `split_token_id` puts a mask before it. A block whose content
    comes back gets another token where the model is least sure. For models that are trained to edit so."""

    statistics = ("confidence", "ranking")
    remasks = True
    within_block = True
    greedy = True
    moves = True
    threshold: float = ThresholdRule.settings()["threshold"].field()
    editing_threshold: float = EditingRule.settings()["editing_threshold"].field()
    max_post_steps: int = EditingRule.settings()["max_post_steps"].field()
    delete_token_id: int | None = setting(
        None, "token that deletes the position where it is predicted; unset: nothing is deleted", low=0,
        source="LLaDA2.2 in SGLang",
    )  # fmt: skip
    split_token_id: int | None = setting(
        None, "token that puts a mask before the position where it is predicted; unset: nothing is inserted", low=0,
        source="LLaDA2.2 in SGLang",
    )  # fmt: skip

    def start(self, canvas: Canvas) -> Slots:
        none, nowhere = torch.zeros_like(canvas.size), torch.zeros_like(canvas.masked)
        empty = canvas.ids.new_empty(len(none), 0, canvas.ids.shape[1])
        return Slots(none - 1, nowhere, nowhere, empty, empty, none, none)

    def still_open(self, canvas: Canvas, memory: Slots) -> Tensor:
        """BoolTensor [B, L]: what is open and has not been cut off."""
        return memory.open & (canvas.positions < canvas.end[:, None])

    def block(self, canvas: Canvas, memory: Slots, first: Tensor) -> Tensor:
        return torch.where(self.still_open(canvas, memory).any(1), memory.block, first)

    def its_block(self, now: StepState) -> Tensor:
        """BoolTensor [B, L]: positions of the block that are no prompt."""
        return in_block(now) & (now.canvas.positions < now.canvas.end[:, None])

    def wants(self, now: StepState) -> Tensor:
        return self.its_block(now) & (now.weights > 0)

    def finished(self, now: StepState) -> Tensor:
        return ~(now.canvas.masked | self.still_open(now.canvas, now.memory)).any(1)

    def remembered(self, now: StepState, its: Tensor) -> Slots:
        """What was remembered of this block; a new one begins with nothing."""
        new, memory = (now.memory.block != now.step.block)[:, None], now.memory
        room = now.scope_length + self.max_post_steps + 3
        if not memory.seen.shape[1]:
            empty = now.canvas.ids.new_full((len(new), room, its.shape[1]), NOTHING)
            memory = memory._replace(seen=empty, written=empty)
        return Slots(
            now.step.block, its, torch.where(new, its & now.canvas.masked, memory.original),
            memory.seen.masked_fill(new[..., None], NOTHING), memory.written.masked_fill(new[..., None], NOTHING),
            torch.where(new[:, 0], 0, memory.forwards), torch.where(new[:, 0], 0, memory.post),
        )  # fmt: skip

    def __call__(self, now: StepState) -> Decision:
        its, ids, confidence = self.its_block(now), now.canvas.ids, now.statistics["confidence"]
        its = its & ~self.finished(now)[:, None]
        memory, score = self.remembered(now, its), confidence * now.weights
        masks = now.eligible & its
        original = masks & memory.original
        none_left = ~original.any(1)
        post = memory.post + none_left
        final = memory.forwards > now.scope_length + self.max_post_steps
        final = final | (post >= self.max_post_steps if self.max_post_steps else none_left)

        sure = masks & (score >= self.threshold)
        need = 1 + (masks & ~original).sum(1)
        unmasked = torch.where((sure.sum(1) >= need)[:, None], sure, best_per_row(score, masks, need))
        if not self.max_post_steps:
            final = final | ~(original & ~unmasked).any(1)
        unmasked = torch.where((final | none_left)[:, None], masks, unmasked)
        other = (now.token != ids) & (confidence > self.editing_threshold)
        wrote = unmasked | (its & ~now.canvas.masked & other)

        ranked, which = now.statistics["ranked"], torch.zeros_like(ids)
        commands = [i for i in (self.delete_token_id, self.split_token_id) if i is not None]
        plain = ~torch.isin(ranked, ranked.new_tensor(commands))
        which = torch.where(final[:, None] & wrote, plain.int().argmax(-1), which)
        content = torch.where(its, ids, NOTHING)
        again = (memory.seen == content[:, None]).all(-1).any(1) & ~final
        doubtful = best_per_row(-confidence, wrote, again.long())
        tried = (memory.written[..., None] == ranked[:, None]).any(1)
        which = torch.where(doubtful, (~tried).int().argmax(-1), which)
        token, log_prob = (
            now.statistics[name].gather(-1, which[..., None])[..., 0] for name in ("ranked", "ranked_log_probs")
        )
        delete = wrote & (token == self.delete_token_id if self.delete_token_id is not None else False)
        split = wrote & (token == self.split_token_id if self.split_token_id is not None else False)
        source, new, gone = moves(its, delete, split)

        at = memory.forwards.clamp(max=memory.seen.shape[1] - 1)[:, None, None].expand(-1, 1, its.shape[1])
        done = final | ~wrote.any(1)
        left = its & ~done[:, None]
        memory = Slots(
            memory.block, left, memory.original.gather(1, source) & ~new, memory.seen.scatter(1, at, content[:, None]),
            memory.written.scatter(1, at, torch.where(wrote, token, NOTHING)[:, None]), memory.forwards + 1, post,
        )  # fmt: skip
        return Decision(
            wrote & ~delete & ~split, remask=gone, tokens=token, log_probs=log_prob, memory=memory, moved=source,
            open=left,
        )  # fmt: skip
