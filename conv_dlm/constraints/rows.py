"""Constraints in the denoising loop: what each row of a canvas still allows, and what is committed together.

Shapes: B rows, L canvas positions, N positions of any rows, V vocabulary, C classes of the automaton that has most, U
different sets of allowed classes. Automata run on the CPU; the device gets one number for each position, and the sets.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from conv_dlm.constraints.errors import ImpossibleConstraint
from conv_dlm.constraints.feasibility import OPEN, StateSets
from conv_dlm.constraints.joint import best_choice, draw_choice
from conv_dlm.constraints.token_automaton import TokenAutomaton, compiled
from conv_dlm.constraints.vocabulary import Vocabulary, vocabulary_of

OUTSIDE = 1e4  # nats that a token outside of the k best costs a draw: they are taken only where no other way is left
UNLIKELY = -1e9  # instead of never, for what a processor forbids and the language may need
# statistics that are kept for each position: by class, its log weight, one token of it and that one's log p
WEIGHT, TOKEN, LOG_PROB = "constraint_weight", "constraint_token", "constraint_log_prob"


class Region(NamedTuple):
    """The positions of a row that its language is about, from its first mask on; end tokens may follow the text where
    no given text does."""

    row: int
    start: int
    end: int
    automaton: int
    sets: StateSets


class Allowed(NamedTuple):
    """What a canvas allows.

    ids: LongTensor [B, L]; the canvas that this is about.
    number: LongTensor [B, L]; a row of `table` for each masked position of a region, 0 elsewhere.
    table: BoolTensor [U, C]; the first allows everything.
    forced: BoolTensor [B, L]; masked positions with one token left, which is in `tokens`, LongTensor [B, L].
    """

    ids: Tensor
    number: Tensor
    table: Tensor
    forced: Tensor
    tokens: Tensor


class RowConstraints:
    """The constraints of a run.

    constraints: one for each row of the canvas, None for none.
    tokenizer: of the model.
    canvas: as the run begins with it.
    eos_token_ids: LongTensor [E], None for none.

    Raises `ImpossibleConstraint` for a canvas that can't be completed, `TokenizerWithoutBytes`.
    """

    def __init__(self, constraints: Sequence[Any], tokenizer: Any, canvas: Any, eos_token_ids: Tensor | None) -> None:
        ends = () if eos_token_ids is None else tuple(eos_token_ids.tolist())
        vocabulary = vocabulary_of(tokenizer, ends, canvas.mask_token_id)
        self.mask_token_id: int = canvas.mask_token_id
        self.automata: list[TokenAutomaton] = []
        self.members: list[np.ndarray] = []  # of each class a token, and how many there are
        self.regions: list[Region] = []
        sets: dict[tuple[int, bool], StateSets] = {}
        length = canvas.ids.shape[1]
        masked = canvas.masked.cpu().numpy()
        for row, constraint in enumerate(constraints):
            if constraint is None or not masked[row].any():
                continue
            automaton = self._automaton(constraint.expression, vocabulary, masked[row])
            if not any(automaton is known for known in self.automata):
                self.automata.append(automaton)
            number = next(n for n, known in enumerate(self.automata) if automaton is known)
            positions = np.flatnonzero(masked[row])
            open_end = bool(masked[row, -1])
            its_sets = sets.setdefault((number, open_end), StateSets(automaton, ends=open_end))
            end = length if open_end else int(positions[-1]) + 1
            self.regions.append(Region(row, int(positions[0]), end, number, its_sets))
        self.of_row = {region.row: region for region in self.regions}
        automaton_of_row = torch.full((len(constraints),), -1)
        for region in self.regions:
            automaton_of_row[region.row] = region.automaton
        self.automaton_of_row = automaton_of_row.to(canvas.ids.device)
        self.classes = max((automaton.classes for automaton in self.automata), default=1)
        self.sizes = [np.bincount(a.token_class, minlength=a.classes) for a in self.automata]
        self.first = [_first_tokens(automaton) for automaton in self.automata]
        self._token_class: list[Tensor] = []
        self._allowed: Allowed | None = None
        ids = canvas.ids.cpu().numpy()
        for region in self.regions:
            try:
                region.sets.check(self.line(region, ids[region.row]))
            except ImpossibleConstraint as error:
                where = f"Row {region.row}: " if len(constraints) > 1 else ""
                raise ImpossibleConstraint(f"{where}{error}", error.least) from error

    @staticmethod
    def _automaton(expression: str, vocabulary: Vocabulary, masked: np.ndarray) -> TokenAutomaton:
        """With forced spans as the tokenizer writes them, where no text is given within and the canvas has room for it.
        masked: bool [L], of the row."""
        first, last = np.flatnonzero(masked)[[0, -1]]
        if masked[first : last + 1].all():
            automaton = compiled(expression, vocabulary, as_spelled=True)
            if StateSets(automaton, ends=bool(masked[-1])).feasible([OPEN] * int(last + 1 - first)):
                return automaton
        return compiled(expression, vocabulary)

    def line(self, region: Region, ids: np.ndarray) -> list[int]:
        """The classes of a region, `OPEN` for masks. ids: int64 [L], of its row."""
        here = ids[region.start : region.end]
        table = self.automata[region.automaton].token_class
        known = np.where(here < len(table), table[np.minimum(here, len(table) - 1)], 0)
        return np.where(here == self.mask_token_id, OPEN, known).tolist()

    def allowed(self, canvas: Any) -> Allowed:
        """What the `canvas` allows; looked at once for each."""
        if self._allowed is None or self._allowed.ids is not canvas.ids:
            self._allowed = self._look(canvas.ids)
        return self._allowed

    def _look(self, ids: Tensor) -> Allowed:
        on_host = ids.cpu().numpy()
        index = np.zeros(on_host.shape, dtype=np.int64)
        forced = np.zeros(on_host.shape, dtype=bool)
        tokens = np.zeros(on_host.shape, dtype=np.int64)
        rows = [np.ones(self.classes, dtype=bool)]
        numbers: dict[tuple[int, int, int, int], int] = {}
        only: dict[int, int] = {}
        for region in self.regions:
            sets = region.sets
            line = self.line(region, on_host[region.row])
            sets.trim()
            ahead, back = sets.forwards(line), sets.backwards(line)
            for offset, class_ in enumerate(line):
                if class_ != OPEN:
                    continue
                key = (region.automaton, id(sets), ahead[offset], back[offset + 1])
                if key not in numbers:
                    numbers[key] = len(rows)
                    found = sets.allowed(*key[2:])
                    rows.append(np.pad(found, (0, self.classes - len(found))))
                    if self.sizes[region.automaton][found].sum() == 1:
                        only[numbers[key]] = int(self.first[region.automaton][found.argmax()])
                number = numbers[key]
                at = (region.row, region.start + offset)
                index[at] = number
                if number in only:
                    forced[at], tokens[at] = True, only[number]
        device = ids.device
        return Allowed(
            ids, torch.from_numpy(index).to(device), torch.from_numpy(np.stack(rows)).to(device),
            torch.from_numpy(forced).to(device), torch.from_numpy(tokens).to(device),
        )  # fmt: skip

    def mask(self, canvas: Any, scores: Tensor, at: Any) -> Tensor:
        """BoolTensor [N, V]: the tokens that the `canvas` allows at the positions `at` of `scores` [N, V]."""
        what = self.allowed(canvas)
        classes = what.table[what.number[at.rows, at.positions]]
        mask = torch.ones_like(scores, dtype=torch.bool)
        for number, token_class in enumerate(self._classes_of_tokens(scores)):
            its = classes.index_select(1, token_class)
            rows = self.automaton_of_row[at.rows] == number
            mask = its if len(self.of_row) == len(self.automaton_of_row) and len(self.automata) == 1 else torch.where(
                rows[:, None], its, mask
            )  # fmt: skip
        return mask

    def _classes_of_tokens(self, scores: Tensor) -> list[Tensor]:
        """LongTensor [V] for each automaton."""
        if not self._token_class:
            for automaton in self.automata:
                classes = torch.from_numpy(automaton.token_class)[: scores.shape[-1]]
                missing = scores.shape[-1] - len(classes)
                self._token_class.append(torch.nn.functional.pad(classes, (0, missing)).to(scores.device))
        return self._token_class

    def summary(self, scores: Tensor, at: Any, top_k: int, temperature: float, noise: Any) -> dict[str, Tensor]:
        """For each position and class: its log weight, one of its tokens and that one's log p, FloatTensor and
        LongTensor [N, C]. Tokens are counted from 1; 0 stands for a position that was never predicted.

        scores: FloatTensor [N, V], as processors left them.
        top_k, temperature: of the draw; where nothing is drawn a class weighs as much as its best token.
        """
        total = scores.logsumexp(-1, keepdim=True)
        greedy = temperature == 0 or top_k == 1
        log_p = scores if greedy else scores - total  # as wide as the vocabulary; what remains of it isn't
        weights = log_p if greedy else log_p / temperature
        if not greedy and 0 < top_k < scores.shape[-1]:
            least = scores.topk(top_k, dim=-1).values[:, -1:]
            weights = torch.where(scores >= least, weights, weights - OUTSIDE)
        keys = weights
        if not greedy:  # one token of a class by the largest of its weights and Gumbel noise
            keys = weights - (-noise.of_tokens(at, scores.shape[-1]).log()).log()
        found: dict[str, Tensor] = {}
        for number, token_class in enumerate(self._classes_of_tokens(scores)):
            its = _by_class(log_p, weights, keys, token_class, self.classes, greedy)
            if greedy:
                its |= {name: its[name] - total for name in (WEIGHT, LOG_PROB)}
            if not found:
                found = its
                continue
            mine = (self.automaton_of_row[at.rows] == number)[:, None]
            found = {name: torch.where(mine, its[name], value) for name, value in found.items()}
        return found

    def settle(
        self, canvas: Any, commit: Tensor, tokens: Tensor, log_probs: Tensor, values: Any, noise: Any,
        remask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """`tokens` [B, L] and their `log_probs` [B, L], with others where those to `commit` can't be completed
        together: the best choice that can, or a draw among these.

        commit, remask: BoolTensor [B, L]; positions that are masked again are open.
        values: statistics of each position, by name.
        noise: FloatTensor [B, L], uniform in [0, 1); None for the best choice.
        """
        again = torch.zeros_like(commit) if remask is None else remask
        stacked = torch.stack([canvas.ids, tokens, commit.long(), again.long()]).cpu().numpy()
        rows, positions, others, chances = [], [], [], []
        for region in self.regions:
            ids, wanted, chosen, opened = stacked[:, region.row]
            span = slice(region.start, region.end)
            where = np.flatnonzero(chosen[span].astype(bool) & ~opened[span].astype(bool))
            if not len(where):
                continue
            line = np.array(self.line(region, ids))
            line[opened[span].astype(bool)] = OPEN
            trial = line.copy()
            trial[where] = np.array(self.line(region, wanted))[where]
            if (trial[where] != OPEN).all() and region.sets.feasible(trial.tolist()):
                continue
            at = torch.from_numpy(where).to(tokens.device) + region.start
            count = self.automata[region.automaton].classes
            weights, token, log_p = (values[name][region.row, at].cpu().numpy() for name in (WEIGHT, TOKEN, LOG_PROB))
            weights = np.maximum(np.where(token > 0, weights, UNLIKELY).astype(np.float64), UNLIKELY)
            of = {position: weights[n, :count] for n, position in enumerate(where.tolist())}
            if noise is None:
                choice = best_choice(region.sets, line.tolist(), of)
            else:
                its_noise = noise[region.row, span].tolist()
                choice = draw_choice(region.sets, line.tolist(), of, its_noise)
            assert choice is not None  # a canvas that could be completed still can
            for n, position in enumerate(where.tolist()):
                class_ = choice[position]
                known = int(token[n, class_]) - 1
                known_log_p = float(log_p[n, class_]) if known >= 0 else 0.0
                rows.append(region.row)
                positions.append(region.start + position)
                others.append(known if known >= 0 else int(self.first[region.automaton][class_]))
                chances.append(known_log_p)
        if not rows:
            return tokens, log_probs
        device = tokens.device
        cells = (torch.tensor(rows, device=device), torch.tensor(positions, device=device))
        new_log_probs = torch.tensor(chances, dtype=log_probs.dtype, device=device)
        return tokens.index_put(cells, torch.tensor(others, device=device)), log_probs.index_put(cells, new_log_probs)


def _first_tokens(automaton: TokenAutomaton) -> np.ndarray:
    """int64 [C]: a token of each class."""
    first = np.zeros(automaton.classes, dtype=np.int64)
    first[automaton.token_class[::-1]] = np.arange(len(automaton.token_class))[::-1]
    return first


def _by_class(
    log_p: Tensor, weights: Tensor, keys: Tensor, token_class: Tensor, classes: int, greedy: bool
) -> dict[str, Tensor]:
    """Of each class the weight, the token with the largest key, and its log p: [N, classes]."""
    index = token_class.expand_as(keys)
    best = keys.new_full((len(keys), classes), -torch.inf).scatter_reduce(1, index, keys, "amax")
    ids = torch.arange(1, keys.shape[1] + 1, device=keys.device, dtype=torch.int32)
    is_best = torch.where(keys == best.gather(1, index), ids, 0)
    token = torch.zeros_like(best, dtype=torch.int32).scatter_reduce(1, index, is_best, "amax").long()
    token = token.where(best.isfinite(), 0)
    weight = best
    if not greedy:
        top = weights.new_full(best.shape, -torch.inf).scatter_reduce(1, index, weights, "amax")
        parts = (weights - top.gather(1, index)).exp().nan_to_num(0.0)
        weight = top + torch.zeros_like(best).scatter_add(1, index, parts).log()
    log_prob = log_p.gather(1, (token - 1).clamp(min=0))
    return {WEIGHT: weight, TOKEN: token, LOG_PROB: log_prob}
