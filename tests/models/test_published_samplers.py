"""Runs of the published samplers, token for token and step by step, by `generate` with the settings that say the same.

Where an original counts otherwise than any decode type here, a rule of the test's own says how, as a user's would. The
last test looks whether every recorded run is in some test, or among the faults that are not to be reproduced.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TopKLogitsWarper, TopPLogitsWarper

from conv_dlm.generation import model_blocks
from conv_dlm.generation.parts.decode_types import DECODE_TYPES, DecodeType
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, FixedStepsRule, StepState, best_per_row

FIXTURES = Path(__file__).parents[1] / "fixtures"


@cache
def runs_of(family: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What is said of all recorded runs of a family, and their tensors."""
    folder = FIXTURES / family
    return json.loads((folder / "runs.json").read_text()), load_file(folder / "runs.safetensors")


@cache
def load(family: str, **kwargs: Any) -> Any:
    """The model, which all runs share: none changes it."""
    return AutoModelForCausalLM.from_pretrained(FIXTURES / family, **kwargs)


class Run:
    """One recorded run, and the model that it is of."""

    def __init__(self, family: str, name: str, **kwargs: Any) -> None:
        runs, tensors = runs_of(family)
        self.mask, self.eos = runs["mask_token_id"], runs["eos_token_id"]
        self.settings = next(run for run in runs["runs"] if run["id"] == name)
        self.tensors = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in tensors.items()
            if key.startswith(f"{name}.")
        }
        self.model = load(family, **kwargs)

    def generate(self, prompt: list[int] | list[list[int]], **settings: Any) -> Any:
        """Canvas [B, L] and forwards [B] of prompts, padded at the left."""
        rows = [prompt] if isinstance(prompt[0], int) else prompt
        length = max(map(len, rows))
        ids = torch.tensor([[0] * (length - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
        return self.model.generate(
            ids, attention_mask=mask, mask_token_id=self.mask, return_dict_in_generate=True, output_history=True,
            **{"eos_token_id": None, "pad_token_id": 0} | settings,
        )  # fmt: skip

    def recorded(self, name: str) -> list[list[int]]:
        """What went into each forward of one row, -1 at its end cut off; or the canvas of one row before each step."""
        return [[token for token in ids if token >= 0] for ids in self.tensors[name].flatten(1).tolist()]


def in_order(canvases: torch.Tensor, recorded: Iterable[tuple[int, list[int]]]) -> bool:
    """Whether a row's canvases [N, L] have what was recorded, each at its place, one after the other."""
    later = iter(canvases.tolist())
    return all(
        any(canvas[start : start + len(ids)] == ids for canvas in later)
        for (start, ids), _ in itertools.groupby(recorded)  # a forward may have changed nothing
    )


@pytest.fixture
def own_rule(monkeypatch):
    """`own_rule(weights, choose, *statistics)`: the name of a decode type that unmasks what `choose(state)` says."""

    def own_rule(weights: str, choose: Callable[[StepState], torch.Tensor], *asked: str) -> str:
        @dataclass(frozen=True)
        class OwnRule(FixedStepsRule):
            statistics = asked

            def __call__(self, now: StepState) -> Decision:
                return Decision(choose(now))

        monkeypatch.setitem(UNMASKING_RULES, "own", OwnRule)
        monkeypatch.setitem(DECODE_TYPES, "own", DecodeType(weights, "own", "a published one", do_sample=False))
        return "own"

    return own_rule


CACHES = pytest.mark.parametrize("cache", [None, "block"])
COVERED: dict[str, set[str]] = {}  # family -> recorded runs that are in some test


def each_run(*families: str, also: tuple[tuple[str, str], ...] = (), **runs: Any) -> Any:
    """Parametrise `family`, `name` and `settings` of recorded runs; `also` those of other families, as they are."""
    cases = [(family, name.replace("__", "."), settings) for family in families for name, settings in runs.items()]
    cases += [(family, name, {}) for family, name in also]
    for family, name, _ in cases:
        COVERED.setdefault(family, set()).add(name)
    return pytest.mark.parametrize(("family", "name", "settings"), cases)


def plain(*names: str) -> dict[str, dict[str, Any]]:
    """Runs that need no settings of their own."""
    return {name: {} for name in names}


SDAR = ("sdar_tiny", "sdar_moe_tiny")


@CACHES
@each_run(
    *SDAR,
    **{f"static.{run}": {"threshold": 1.0} for run in "abc"},
    **{f"dynamic.{run}": {"threshold": 0.35} for run in "abc"},
    **{f"sequential.{run}": {"threshold": 1.0, "block_length": 1} for run in ("a", "b", "c", "top_k_1")},
    dynamic__high={"threshold": 0.7},
    dynamic__few_steps={"threshold": 0.35, "min_per_step": 2},
    static__otherblock={"threshold": 1.0},
    dynamic__top_k_1={"threshold": 0.9, "logits_processor": [TopKLogitsWarper(1)]},
    dynamic__top_k_3={"threshold": 0.5, "logits_processor": [TopKLogitsWarper(3)]},
    dynamic__top_p={"threshold": 0.5, "logits_processor": [TopPLogitsWarper(0.4)]},
)
def test_sdar(family, name, settings, cache):
    runs = runs_of(family)[0]["runs"]
    block = next(run for run in runs if run["id"] == name)["block_length"]
    run = Run(family, name, block_length=block)
    prompt = run.settings["prompt"]
    if run.settings.get("overwrites_known_tokens"):
        pytest.skip("a fault of the original")
    new = -(-(len(prompt) + run.settings["gen_length"]) // block) * block - len(prompt)  # the canvas has whole blocks
    settings = {"block_length": block} | settings
    out = run.generate(prompt, decode_type="threshold", max_new_tokens=new, cache_implementation=cache, **settings)
    assert out.sequences[0].tolist() == run.tensors["final"].flatten().tolist()
    assert int(out.forwards[0]) == len(run.tensors["block_inputs"])  # those that store keys and values are not counted
    assert in_order(out.history[:, 0], zip(run.settings["block_starts"], run.recorded("block_inputs"), strict=True))


def leftmost(now: StepState) -> torch.Tensor:
    """Of a block of 4 in 3 steps, 2, 1 and 1."""
    return best_per_row(-now.canvas.positions.expand_as(now.weights).float(), now.eligible, -(-now.masks.sum(1) // 2))


def within_sum(now: StepState) -> torch.Tensor:
    """SDAR's engine: the least entropies whose sum, the greatest included, stays below a bound; at least one."""
    entropy = now.statistics["entropy"].masked_fill(~now.eligible, torch.inf)
    count = (entropy.sort(1).values.cumsum(1) < now.weights.new_tensor(within_sum.bound)).sum(1)
    return best_per_row(-entropy, now.eligible, count.clamp(min=1))


@CACHES
@each_run(
    *SDAR,
    static__few_steps={"decode_type": "llada", "steps": 9},
    static__stop={"threshold": 1.0},
    sequential__few_steps={"rule": leftmost, "steps": 9},
    engine__static={"threshold": 1.0},
    engine__dynamic={"threshold": 0.35},
    engine__sequential={"threshold": 1.0, "block_length": 1},
    engine__entropy_bounded__low={"rule": within_sum, "steps": 16},
    engine__entropy_bounded__mid={"rule": within_sum, "steps": 16},
    engine__entropy_bounded__high={"rule": within_sum, "steps": 16},
    engine__stop={"threshold": 1.0},
)
def test_sdar_with_fewer_steps_and_stops(family, name, settings, cache, own_rule):
    """The originals denoise whole blocks, and cut."""
    run = Run(family, name, block_length=4)
    prompt, final = run.settings["prompt"], run.tensors["final"].flatten().tolist()
    final = final if final[: len(prompt)] == prompt else prompt + final
    length = run.settings.get("gen_length", run.settings.get("max_tokens"))
    new = -(-(len(prompt) + length) // 4) * 4 - len(prompt)
    settings = {"decode_type": "threshold", "block_length": 4} | settings
    if "rule" in settings:
        within_sum.bound = run.settings.get("eb_threshold", 0.0)
        settings["decode_type"] = own_rule("block", settings.pop("rule"), "entropy")
    ends = run.settings.get("stopping_criteria_idx") or run.settings.get("stop_words")
    out = run.generate(prompt, max_new_tokens=new, cache_implementation=cache, eos_token_id=ends or None, **settings)
    stops = [place for place, token in enumerate(final) if token in (ends or ()) and place >= len(prompt)]
    assert bool(stops) == ("stop" in name)
    length = stops[0] + 1 if stops else len(final)
    assert out.sequences[0, :length].tolist() == final[:length]
    assert in_order(out.history[:, 0], zip(run.settings["block_starts"], run.recorded("block_inputs"), strict=True))


@CACHES
@each_run(
    "llada2_tiny",
    **{f"v20.{run}": {"threshold": 0.5} for run in ("a", "b", "c", "stop", "early_stop")},
    v20__one_by_one={"threshold": 1.0},
    v20__few_steps={"decode_type": "llada", "steps": 9},  # nothing reaches its threshold
    v20__minimal_topk={"threshold": 0.9, "min_per_step": 4},  # 19 // 9 steps for a block of 8
    v21__no_editing={"threshold": 0.6},
)
def test_llada2(family, name, settings, cache):
    run = Run(family, name, block_length=8)
    prompt, eos = run.settings["prompt"], run.settings.get("eos_id", run.settings.get("eos_token_id"))
    length = run.settings.get("gen_length", run.settings.get("max_new_tokens"))
    new = -(-(len(prompt) + length) // 8) * 8 - len(prompt)
    out = run.generate(
        prompt, max_new_tokens=new, block_length=8, cache_implementation=cache, eos_token_id=eos,
        **{"decode_type": "threshold"} | settings,
    )  # fmt: skip
    answer = out.sequences[0, len(prompt) :][:length].tolist()
    answer = answer[: answer.index(eos) + 1] if eos in answer else answer
    if "generated" in run.tensors:
        expected = run.tensors["generated"].flatten().tolist()
        expected = expected[len(prompt) :] if name == "v20.early_stop" else expected  # that one has the prompt, too
    else:
        expected = run.tensors["canvases"][-1][len(prompt) :][:length].tolist()
    assert answer == expected
    steps = run.recorded("forward_inputs" if "forward_inputs" in run.tensors else "canvases")
    assert in_order(out.history[:, 0], ((0, ids[: len(prompt) + len(answer)]) for ids in steps))


@CACHES
@each_run("llada2_tiny", **{f"v21.{run}": {} for run in ("a", "b", "c", "defaults", "low", "two_at_least", "stop")})
def test_llada2_with_editing(family, name, settings, cache):
    """The whole canvas, as the original leaves it, up to the end token."""
    run = Run(family, name, block_length=8)
    prompt, eos, said = run.settings["prompt"], run.settings["eos_token_id"], run.settings
    final = run.tensors["canvases"][-1].tolist()
    out = run.generate(
        prompt, decode_type="editing", max_new_tokens=len(final) - len(prompt), cache_implementation=cache,
        threshold=said.get("threshold", 0.95), editing_threshold=said.get("editing_threshold", 0.9),
        editing_tokens=said.get("num_to_transfer", 1), max_post_steps=said.get("max_post_steps", 16),
        eos_token_id=eos if said["eos_early_stop"] else None,
    )  # fmt: skip
    ends = eos in final[len(prompt) :] and said["eos_early_stop"]
    length = final.index(eos, len(prompt)) + 1 if ends else len(final)
    assert out.sequences[0, :length].tolist() == final[:length]
    assert in_order(out.history[:, 0], ((0, ids[:length]) for ids in run.recorded("canvases")))


A2D = tuple(f"a2d_{base}_tiny" for base in ("qwen3", "qwen2", "llama"))


LLADA_MOE = ("llada_moe_tiny", "llada_moe_general_tiny")


@each_run(
    *A2D,
    mdlm__single={},
    mdlm__suppress={},
    also=tuple((family, name) for family in LLADA_MOE for name in ("single", "blocks", "cfg")),
)
def test_full_attention_as_llada(family, name, settings):
    """The originals pad at the right; here rows are padded at the left."""
    run = Run(family, name)
    prompts, length = run.settings["prompts"], run.settings["max_new_tokens"]
    out = run.generate(
        prompts, decode_type="llada", max_new_tokens=length, block_length=run.settings["block_size"],
        steps=run.settings["steps"], guidance_scale=run.settings.get("cfg_scale", 0.0) + 1,
        suppress_tokens=run.settings.get("suppress_tokens"),
    )  # fmt: skip
    for row, prompt in enumerate(prompts):
        end = len(prompt) + length
        final = run.tensors["final"] if "final" in run.tensors else run.tensors["canvases"][-1]
        assert out.sequences[row, -length:].tolist() == final[row][len(prompt) : end].tolist()
        steps = run.tensors["canvases"][:, row, :end].tolist()
        assert in_order(out.history[:, row], ((out.sequences.shape[1] - end, ids) for ids in steps))


def rounded_share(now: StepState) -> torch.Tensor:
    """A2D's schedule: of the masks that are left the share (t - s) / t, rounded; of the surest."""
    rounds = now.step.rounds_left
    assert now.step.steps is not None
    whole = now.step.steps // rounded_share.blocks
    t, s = (1 - (1 - (left.float() / whole)) for left in (rounds, rounds - 1))  # as there, in float32
    left = now.masks.sum(1)
    count = torch.minimum((left.double() * (1 - s / t).double()).round().long(), left)
    return best_per_row(now.statistics["confidence"], now.eligible, count)


@each_run(*A2D, **plain("mdlm.blocks", "mdlm.few_steps"))
def test_a2d_with_fewer_steps(family, name, settings, own_rule):
    run = Run(family, name)
    prompts, length, block = (run.settings[key] for key in ("prompts", "max_new_tokens", "block_size"))
    rounded_share.blocks = -(-length // block)
    out = run.generate(
        prompts, decode_type=own_rule("block", rounded_share, "confidence"), max_new_tokens=length, block_length=block,
        steps=-(-run.settings["steps"] // rounded_share.blocks) * rounded_share.blocks,
    )  # fmt: skip
    for row, prompt in enumerate(prompts):
        end = len(prompt) + length
        assert out.sequences[row, -length:].tolist() == run.tensors["final"][row][len(prompt) : end].tolist()
        steps = run.tensors["canvases"][:, row, :end].tolist()
        assert in_order(out.history[:, row], ((out.sequences.shape[1] - end, ids) for ids in steps))


@CACHES
@each_run(
    *A2D,
    **plain("bd3lm.single", "bd3lm.batch", "bd3lm.few_steps", "bd3lm.steps_per_block", "bd3lm.cfg"),
    bd3lm__shift={"shift_logits": True},
    bd3lm__one_block={},
    bd3lm__stop={},
)
def test_a2d_block_by_block(family, name, settings, cache, own_rule, monkeypatch):
    """Blocks are counted from the response; where logits are shifted, their first position goes with the others."""
    run = Run(family, name, attention_pattern="block_causal", block_length=4)
    monkeypatch.setattr(model_blocks, "_first_alone", lambda index, size, length: index)
    prompts, length = run.settings["prompts"], run.settings["max_new_tokens"]
    rounded_share.blocks = blocks = -(-length // 4)
    rounds = run.settings.get("steps_per_block") or -(-run.settings["steps"] // blocks)
    stop = run.settings["eos_token_id"] if name == "bd3lm.stop" else None
    out = run.generate(
        prompts, decode_type=own_rule("block", rounded_share, "confidence"), max_new_tokens=length, block_length=4,
        steps=rounds * blocks, align_blocks=True, cache_implementation=cache, eos_token_id=stop,
        guidance_scale=run.settings.get("cfg_scale", 0.0) + 1, **settings,
    )  # fmt: skip
    start = -(-max(map(len, prompts)) // 4) * 4
    finals = run.tensors["final"][:, start:].tolist()
    for row, (ours, final) in enumerate(zip(out.sequences[:, -length:].tolist(), finals, strict=True)):
        if run.settings["pad_token_id"] in final:  # a fault: it is not seen from then on
            final = final[: (final.index(run.settings["pad_token_id"]) // 4 + 1) * 4]
        assert (stop in final) == (stop is not None)
        final = final[: final.index(stop) + 1] if stop in final else final
        assert ours[: len(final)] == final
        steps = run.tensors["canvases"][:, row, start : start + len(final)].tolist()
        pieces = ([token for token in ids if token >= 0] for ids in steps)
        assert in_order(out.history[:, row], ((max(map(len, prompts)), ids) for ids in pieces))


def dreams_share(now: StepState) -> torch.Tensor:
    """At the times linspace(1, eps, S + 1), 1 - T(i+1) / T(i): FloatTensor of one number; 1 at the end."""
    assert now.step.steps is not None
    times = torch.linspace(1, dreams_share.eps, now.step.steps + 1)
    last = now.step.number == now.step.steps - 1
    return torch.tensor(1.0) if last else 1 - times[now.step.number + 1] / times[now.step.number]


def dreams_choice(algorithm: str) -> Callable[[StepState], torch.Tensor]:
    """That share of the masks, rounded down. Its first steps may have nothing to do, so it is no decode type here."""

    def choose(now: StepState) -> torch.Tensor:
        count = (now.masks.sum(1) * dreams_share(now)).long()
        best = now.statistics["best_log_prob"].exp()
        scores = {
            "maskgit_plus": now.statistics["confidence"],
            "topk_margin": best - best * (-now.statistics["margin"]).exp(),
            "entropy": -now.statistics["entropy"],
        }
        return best_per_row(scores[algorithm], now.eligible, count)

    return choose


def by_chance(draws: dict[str, torch.Tensor]) -> Callable[[StepState], torch.Tensor]:
    """`origin`: each mask with that probability, by the recorded draws of all masks, rows first."""

    def choose(now: StepState) -> torch.Tensor:
        drawn = torch.ones(now.masks.shape).masked_scatter(now.masks, draws[f"uniform.{now.step.number}"])
        return now.masks & (drawn < dreams_share(now))

    return choose


@each_run(
    "dream_tiny",
    **{f"{a}.{run}": {} for a in ("maskgit_plus", "topk_margin", "entropy")
       for run in ("s16.single", "s8.single", "s5.single", "s5.batch")},
    **plain("entropy.top_p", "maskgit_plus.inherited_top_k", "entropy.inherited_top_k", "maskgit_plus.top_k",
         "topk_margin.more_steps", "maskgit_plus.eps", "entropy.infill", "origin.seed0", "origin.seed1",
         "origin.batch"),
)  # fmt: skip
def test_dream(family, name, settings, own_rule):
    run = Run(family, name)
    of_run = run.settings
    dreams_share.eps = of_run["eps"]
    choose = by_chance(run.tensors) if of_run["alg"] == "origin" else dreams_choice(of_run["alg"])
    top_k = of_run.get("top_k", 50)  # what isn't said is inherited from Transformers 4
    ids = run.tensors["input_ids"]
    given = run.tensors.get("attention_mask", torch.ones_like(ids)).bool()
    out = run.generate(
        [row[real].tolist() for row, real in zip(ids, given, strict=True)],
        decode_type=own_rule("uniform", choose, "confidence", "margin", "entropy"), steps=of_run["steps"],
        max_new_tokens=of_run["max_new_tokens"],
        logits_processor=[TopPLogitsWarper(of_run.get("top_p", 1.0)), *([TopKLogitsWarper(top_k)] if top_k else [])],
    )  # fmt: skip
    given = torch.nn.functional.pad(given, (0, of_run["max_new_tokens"]), value=True)
    assert torch.equal(out.sequences[given], run.tensors["canvases"][-1][given])
    for row, real in enumerate(given):
        steps = run.tensors["canvases"][:, row, real].tolist()
        assert in_order(out.history[:, row], ((int((~real).sum()), ids) for ids in steps))


@pytest.mark.parametrize("cache", [None, "block", "sub_block"])
@each_run(
    "fast_dllm_v2_tiny",
    **plain("one_by_one", "threshold", "threshold.aligned", "threshold.short", "threshold.low", "sub_2", "sub_whole",
         "ragged_budget", "published_block", "stop", "stop.extra_token", "block_cache", "block_cache.one_by_one"),
)  # fmt: skip
def test_fast_dllm_v2(family, name, settings, cache):
    """Sub-blocks, and the first token of each block before the others; with the sub-block cache and without."""
    if (cache == "sub_block") != ("block_cache" in name):
        pytest.skip("is of another cache")
    runs = runs_of(family)[0]["runs"]
    settings = next(run for run in runs if run["id"] == name)
    run = Run(family, name, block_length=settings["block_size"])
    prompt, stop = settings["prompt"], settings["stop_token"]
    expected = run.tensors["final"].flatten().tolist()
    if stop in expected[len(prompt) :]:  # the original goes on to the block's end, and cuts
        new = settings["max_new_tokens"]
    else:
        new = len(expected) - len(prompt)
    out = run.generate(
        prompt, decode_type="threshold", threshold=settings["threshold"], block_length=settings["small_block_size"],
        max_new_tokens=new, eos_token_id=stop, cache_implementation=cache,
    )  # fmt: skip
    assert out.sequences[0].tolist()[: len(expected)] == expected
    forwards = zip(settings["kinds"], settings["past"], run.recorded("forward_inputs"), strict=True)
    assert in_order(out.history[:, 0], ((past, ids) for kind, past, ids in forwards if kind == "block"))


@CACHES
@each_run("fast_dllm_v2_tiny", **plain("batch.single", "batch.two", "batch.other_blocks", "batch.stop"))
def test_fast_dllm_v2_in_a_batch(family, name, settings, cache):
    """The original's batches are padded at the right, by masks; blocks are each row's own. There a row waits for others
    to be done with a sub-block, so that some forwards repeat its canvas."""
    runs = runs_of(family)[0]["runs"]
    settings = next(run for run in runs if run["id"] == name)
    run = Run(family, name, block_length=8)
    prompts = settings["prompts"]
    finals = [run.tensors[f"final.{row}"].flatten().tolist() for row in range(len(prompts))]
    new = max(len(final) - len(prompt) for final, prompt in zip(finals, prompts, strict=True))
    out = run.generate(
        prompts, decode_type="threshold", threshold=settings["threshold"], block_length=settings["small_block_size"],
        max_new_tokens=new, eos_token_id=settings["stop_token"], pad_token_id=settings["pad_token_id"],
        cache_implementation=cache,
    )  # fmt: skip
    longest = max(map(len, prompts))
    inputs, stop = iter(run.recorded("forward_inputs")), settings["stop_token"]
    ends = [final.index(stop) + 1 if stop in final else len(final) for final in finals]  # what is behind doesn't count
    steps: list[list[tuple[int, list[int]]]] = [[] for _ in prompts]
    for kind, past, rows in zip(settings["kinds"], settings["past"], settings["rows"], strict=True):
        for row, final in enumerate(finals):
            if rows == len(prompts) or stop not in final:  # else it has left
                ids = next(inputs)[: ends[row] - past]
                steps[row] += [(longest - len(prompts[row]) + past, ids)] if kind == "block" else []
    assert not list(inputs)
    for row, (prompt, final) in enumerate(zip(prompts, finals, strict=True)):
        assert out.sequences[row, longest - len(prompt) :][: len(final)].tolist() == final
        assert in_order(out.history[:, row], steps[row])


# docs/models.md says what each is
FAULTS = {
    "fault.static_overwrites_prompt", "fault.entropy_bounded", "fault.prompt_of_one_block", "bd3lm.pad_is_generated",
}  # fmt: skip


# What tests read of a run: given, compared as the result, or step by step.
READ = r"input_ids|attention_mask|uniform\.\d+|final(\.\d)?|generated|canvases|block_inputs|forward_inputs"


@pytest.mark.parametrize("family", COVERED)
def test_every_recorded_run_is_in_some_test(family):
    recorded = {run["id"] for run in runs_of(family)[0]["runs"]}
    assert recorded - COVERED[family] == recorded & FAULTS
    assert COVERED[family] <= recorded
    runs = "|".join(map(re.escape, recorded))
    for tensor in load_file(FIXTURES / family / "runs.safetensors"):
        assert re.fullmatch(rf"({runs})\.({READ})", tensor), f"no test reads {tensor}"
