"""Runs of the published samplers, token for token, by `generate` with the settings that say the same."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TopKLogitsWarper, TopPLogitsWarper

from conv_dlm.generation.parts.decode_types import DECODE_TYPES, DecodeType
from conv_dlm.generation.parts.rules import UNMASKING_RULES, Decision, FixedStepsRule, StepState, best_per_row

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Run:
    """One recorded run, and the model that it is of."""

    def __init__(self, family: str, name: str, **kwargs: Any) -> None:
        runs = json.loads((FIXTURES / family / "runs.json").read_text())
        self.mask, self.eos = runs["mask_token_id"], runs["eos_token_id"]
        self.settings = next(run for run in runs["runs"] if run["id"] == name)
        self.tensors = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in load_file(FIXTURES / family / "runs.safetensors").items()
            if key.startswith(f"{name}.")
        }
        self.model = AutoModelForCausalLM.from_pretrained(FIXTURES / family, **kwargs)

    def generate(self, prompt: list[int] | list[list[int]], **settings: Any) -> Any:
        """Canvas [B, L] and forwards [B] of prompts, padded at the left."""
        rows = [prompt] if isinstance(prompt[0], int) else prompt
        length = max(map(len, rows))
        ids = torch.tensor([[0] * (length - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
        return self.model.generate(
            ids, attention_mask=mask, mask_token_id=self.mask, return_dict_in_generate=True,
            **{"eos_token_id": None, "pad_token_id": 0} | settings,
        )  # fmt: skip


CACHES = pytest.mark.parametrize("cache", [None, "block"])


@CACHES
@pytest.mark.parametrize("family", ["sdar_tiny", "sdar_moe_tiny"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((f"static.{run}", {"threshold": 1.0}) for run in "abc"),
        *((f"dynamic.{run}", {"threshold": 0.35}) for run in "abc"),
        *((f"sequential.{run}", {"threshold": 1.0, "block_length": 1}) for run in "abc"),
        ("dynamic.high", {"threshold": 0.7}),
        ("static.otherblock", {"threshold": 1.0}),
        ("dynamic.top_k_3", {"threshold": 0.5, "logits_processor": [TopKLogitsWarper(3)]}),
        ("dynamic.top_p", {"threshold": 0.5, "logits_processor": [TopPLogitsWarper(0.4)]}),
    ],
)
def test_sdar(family, name, settings, cache):
    runs = json.loads((FIXTURES / family / "runs.json").read_text())["runs"]
    if name not in {run["id"] for run in runs}:
        pytest.skip("not recorded")
    block = next(run for run in runs if run["id"] == name)["block_length"]
    run = Run(family, name, block_length=block)
    prompt = run.settings["prompt"]
    new = -(-(len(prompt) + run.settings["gen_length"]) // block) * block - len(prompt)  # the canvas has whole blocks
    settings = {"block_length": block} | settings
    out = run.generate(prompt, decode_type="threshold", max_new_tokens=new, cache_implementation=cache, **settings)
    assert out.sequences[0].tolist() == run.tensors["final"].flatten().tolist()
    assert int(out.forwards[0]) == len(run.tensors["block_inputs"])  # those that store keys and values are not counted


@CACHES
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("static.few_steps", {"decode_type": "llada", "steps": 9}),
        ("static.stop", {"decode_type": "threshold", "threshold": 1.0, "eos_token_id": [108, 0]}),
        ("engine.static", {"decode_type": "threshold", "threshold": 1.0}),
        ("engine.dynamic", {"decode_type": "threshold", "threshold": 0.35}),
        ("engine.sequential", {"decode_type": "threshold", "threshold": 1.0, "block_length": 1}),
        ("engine.stop", {"decode_type": "threshold", "threshold": 1.0, "eos_token_id": 108}),
    ],
)
def test_sdar_with_fewer_steps_and_stops(name, settings, cache):
    """The originals denoise whole blocks, and cut."""
    run = Run("sdar_tiny", name, block_length=4)
    prompt, final = run.settings["prompt"], run.tensors["final"].flatten().tolist()
    final = final if final[: len(prompt)] == prompt else prompt + final
    length = run.settings.get("gen_length", run.settings.get("max_tokens"))
    new = -(-(len(prompt) + length) // 4) * 4 - len(prompt)
    out = run.generate(prompt, max_new_tokens=new, cache_implementation=cache, **{"block_length": 4} | settings)
    ends = settings.get("eos_token_id", [])
    stops = [place for place, token in enumerate(final) if token in (ends if isinstance(ends, list) else [ends])]
    stops = [place for place in stops if place >= len(prompt)]
    assert bool(stops) == ("stop" in name)
    length = stops[0] + 1 if stops else len(final)
    assert out.sequences[0, :length].tolist() == final[:length]


@CACHES
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((f"v20.{run}", {"threshold": 0.5}) for run in "abc"),
        ("v20.one_by_one", {"threshold": 1.0}),
        ("v20.stop", {"threshold": 0.5}),
        ("v20.early_stop", {"threshold": 0.5}),
        ("v20.few_steps", {"decode_type": "llada", "steps": 9}),  # nothing reaches its threshold
        ("v21.no_editing", {"threshold": 0.6}),
    ],
)
def test_llada2(name, settings, cache):
    run = Run("llada2_tiny", name, block_length=8)
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


@CACHES
@pytest.mark.parametrize("name", [f"v21.{run}" for run in ("a", "b", "c", "defaults", "low", "two_at_least", "stop")])
def test_llada2_with_editing(name, cache):
    """The whole canvas, as the original leaves it, up to the end token."""
    run = Run("llada2_tiny", name, block_length=8)
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


@pytest.mark.parametrize(
    ("family", "name"),
    [(f"a2d_{base}_tiny", run) for base in ("qwen3", "qwen2", "llama") for run in ("mdlm.single", "mdlm.suppress")]
    + [("llada_moe_tiny", run) for run in ("single", "blocks", "cfg")],
)
def test_full_attention_as_llada(family, name):
    """The originals pad at the right; here rows are padded at the left."""
    run = Run(family, name)
    prompts, length = run.settings["prompts"], run.settings["max_new_tokens"]
    out = run.generate(
        prompts, decode_type="llada", max_new_tokens=length, block_length=run.settings["block_size"],
        steps=run.settings["steps"], guidance_scale=run.settings.get("cfg_scale", 0.0) + 1,
        suppress_tokens=run.settings.get("suppress_tokens"),
    )  # fmt: skip
    for row, prompt in enumerate(prompts):
        final = run.tensors["final"] if "final" in run.tensors else run.tensors["canvases"][-1]
        expected = final[row][len(prompt) :][:length].tolist()
        assert out.sequences[row, -length:].tolist() == expected


def dream_rule(algorithm: str, eps: float) -> type[FixedStepsRule]:
    """Dream's rule: at the times linspace(1, eps, S + 1) the share 1 - T(i+1)/T(i) of the masks, rounded down, all of
    them at the end. Its first steps may have nothing to do, so it is no decode type of ours."""

    @dataclass(frozen=True)
    class DreamRule(FixedStepsRule):
        statistics = ("confidence", "margin", "entropy")

        def __call__(self, now: StepState) -> Decision:
            times = torch.linspace(1, eps, self.steps + 1)
            share = 1 - times[now.step.number + 1] / times[now.step.number]
            masks = now.masks.sum(1)
            count = masks if now.step.number == self.steps - 1 else (masks * share).long()
            best = now.statistics["best_log_prob"].exp()
            scores = {
                "maskgit_plus": now.statistics["confidence"],
                "topk_margin": best - best * (-now.statistics["margin"]).exp(),
                "entropy": -now.statistics["entropy"],
            }
            return Decision(best_per_row(scores[algorithm], now.eligible, count))

    return DreamRule


@pytest.mark.parametrize(
    "name",
    [
        *(f"{a}.{run}" for a in ("maskgit_plus", "topk_margin", "entropy")
          for run in ("s16.single", "s8.single", "s5.single", "s5.batch")),
        "entropy.top_p", "maskgit_plus.inherited_top_k", "entropy.inherited_top_k", "maskgit_plus.top_k",
        "topk_margin.more_steps", "maskgit_plus.eps", "entropy.infill",
    ],
)  # fmt: skip
def test_dream(name, monkeypatch):
    run = Run("dream_tiny", name)
    of_run = run.settings
    monkeypatch.setitem(UNMASKING_RULES, "dream", dream_rule(of_run["alg"], of_run["eps"]))
    monkeypatch.setitem(DECODE_TYPES, "dream", DecodeType("uniform", "dream", "Dream's", do_sample=False))
    top_k = of_run.get("top_k", 50)  # what isn't said is inherited from Transformers 4
    ids = run.tensors["input_ids"]
    given = run.tensors.get("attention_mask", torch.ones_like(ids)).bool()
    out = run.generate(
        [row[real].tolist() for row, real in zip(ids, given, strict=True)], decode_type="dream", steps=of_run["steps"],
        max_new_tokens=of_run["max_new_tokens"],
        logits_processor=[TopPLogitsWarper(of_run.get("top_p", 1.0)), *([TopKLogitsWarper(top_k)] if top_k else [])],
    )  # fmt: skip
    given = torch.nn.functional.pad(given, (0, of_run["max_new_tokens"]), value=True)
    assert torch.equal(out.sequences[given], run.tensors["canvases"][-1][given])


@CACHES
@pytest.mark.parametrize(
    "name",
    ["one_by_one", "threshold", "threshold.aligned", "threshold.short", "threshold.low", "sub_2", "sub_whole",
     "ragged_budget", "published_block", "stop", "stop.extra_token"],
)  # fmt: skip
def test_fast_dllm_v2(name, cache):
    """Sub-blocks, and the first token of each block before the others."""
    runs = json.loads((FIXTURES / "fast_dllm_v2_tiny" / "runs.json").read_text())["runs"]
    settings = next(run for run in runs if run["id"] == name)
    run = Run("fast_dllm_v2_tiny", name, block_length=settings["block_size"])
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


@CACHES
@pytest.mark.parametrize("name", ["batch.single", "batch.two", "batch.other_blocks"])
def test_fast_dllm_v2_in_a_batch(name, cache):
    """The original's batches are padded at the right, by masks; blocks are each row's own."""
    runs = json.loads((FIXTURES / "fast_dllm_v2_tiny" / "runs.json").read_text())["runs"]
    settings = next(run for run in runs if run["id"] == name)
    run = Run("fast_dllm_v2_tiny", name, block_length=8)
    prompts = settings["prompts"]
    finals = [run.tensors[f"final.{row}"].flatten().tolist() for row in range(len(prompts))]
    new = max(len(final) - len(prompt) for final, prompt in zip(finals, prompts, strict=True))
    out = run.generate(
        prompts, decode_type="threshold", threshold=settings["threshold"], block_length=settings["small_block_size"],
        max_new_tokens=new, eos_token_id=settings["stop_token"], pad_token_id=settings["pad_token_id"],
        cache_implementation=cache,
    )  # fmt: skip
    longest = max(map(len, prompts))
    for prompt, final, ours in zip(prompts, finals, out.sequences.tolist(), strict=True):
        assert ours[longest - len(prompt) :][: len(final)] == final
