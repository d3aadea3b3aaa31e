"""Golden runs of the field's rules, and ours of the same settings."""

import functools
import itertools
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from conv_dlm import DECODE_TYPES, DecodeType
from conv_dlm.generation import POSITION_WEIGHTS, BlockCausal
from conv_dlm.generation.parts.position_weights import BlockWeights
from tests.generation.toy_rules import EOS, GOLDEN, MASK, RuleToy, RuleVerifier, golden_runs
from tests.generation.variants import VARIANTS, registered

SHORTEST = 3
RUNS = {run["id"]: run for run in golden_runs()}
# their names of settings -> ours
NAMES = {
    "klass": {"conf_threshold": "klass_threshold", "kl_threshold": "kl_threshold", "history_length": "history_length"},
    "credit": {
        "alpha": "credit_weight", "beta": "credit_decay", "gamma": "credit_power", "threshold": "threshold",
    },
    "localleap": {"threshold": "threshold", "relaxed_threshold": "relaxed_threshold", "radius": "leap_radius"},
    "hierarchical": {"threshold": "threshold", "low_threshold": "low_threshold"},
    "hierarchical_remask": {
        "threshold": "threshold", "low_threshold": "low_threshold", "remask_threshold": "remask_threshold",
    },
    "learn2pd": {"accept_threshold": "filter_threshold"},
    "wino": {"threshold": "wino_threshold", "threshold_back": "verify_threshold"},
    "rcr": {"steps": "steps", "mode": "rcr_schedule", "conf_alg": "ranked_by"},
    "saber": {"n": "saber_tokens"},
    "editing": {
        "threshold": "threshold", "editing_threshold": "editing_threshold", "edit_threshold": "editing_threshold",
        "max_post_steps": "max_post_steps", "max_post_edit_steps": "max_post_steps",
        "num_to_transfer": "editing_tokens", "num_inference_steps": "editing_steps",
    },
    "daedal": {
        "initial_gen_length": "initial_length", "high_conf_threshold": "threshold",
        "low_conf_threshold": "unsure_below", "expansion_factor": "expansion_factor",
        "eos_confidence_threshold": "length_confidence", "expand_eos_confidence_threshold": "insert_confidence",
        "eos_check_tokens": "eos_check_tokens",
    },
    "guided": {},
    "pc_sampler": {
        "steps": "steps", "lambda": "position_decay", "alpha": "frequency_cap", "frequency": "token_frequencies",
    },
    "ccd": {
        "steps": "steps", "seek_mode": "all_consistent", "expand_ratio": "expand_ratio", "alg": "ranked_by",
    },
    "threshold_dinfer": {"threshold": "threshold"},
    "slowfast": {
        "exploration_steps": "exploration_steps", "cycle_threshold": "cycle_threshold", "window": "cycle_estimates",
        "std_threshold": "cycle_deviation", "high_threshold": "threshold",
    },
    "multiblock": {
        "entropy_threshold": "multiblock_entropy", "block_add_threshold": "block_add_threshold",
        "decoded_token_threshold": "decoded_token_threshold", "block_length": "flight_length",
        "confidence_threshold": "threshold", "sampling_strategy": "ranked_by",
    },
}  # fmt: skip
NAMES["editing_indel"] = NAMES["editing"] | {"delete_id": "delete_token_id", "split_id": "split_token_id"}
NAMES["lopa"] = NAMES["multiblock"] | {
    "branching_factor": "branching_factor", "branch_topp": "branch_share", "alpha": "branch_memory",
}  # fmt: skip
# their words for how sure a model is -> ours
VALUES = {"low_confidence": "confidence", "maskgit_plus": "confidence", "topk_margin": "margin"}
VALUES |= {"default": "confidence", "margin_confidence": "margin", "neg_entropy": "entropy"}
# forwards after which ours differs on purpose -> why
DIFFERS = {
    "klass.02": (30, "no divergence from another block's steps: a block's predictions start without a history"),
    "klass.03": (32, "likewise"), "klass.06": (18, "likewise"),
    "editing.08": (70, "Diffusers denoises masks behind `max_new_tokens` that nobody sees, and their shares with them"),
    "editing.09": (24, "likewise"), "editing.10": (23, "likewise"), "editing.11": (17, "likewise"),
}

# runs of what is left out on purpose; docs/speed.md says why
NOT_OURS = {"iteration_smoothing.01", "iteration_smoothing.02"}
COVERED: set[str] = set()  # runs that some test asked for


class AlignedBlocks(BlockWeights):
    """dInfer's `align`: blocks on multiples of their length from position 0."""

    def _blocks_of(self, canvas):
        return canvas.positions.expand_as(canvas.ids) // self.block_length


@contextmanager
def aligned(run):
    """The name of the decode type of a run; with such blocks, if the run has them."""
    if run["id"] in VARIANTS:
        with registered(run["id"]) as name:
            yield name
        return
    kind = {"threshold_dinfer": "threshold", "learn2pd": "learned_filter"}.get(run["rule"], rule_of(run))
    if not run["settings"].get("align"):
        yield kind
        return
    POSITION_WEIGHTS.register("aligned", AlignedBlocks)
    DECODE_TYPES.register("aligned", DecodeType("aligned", kind, "in blocks of dInfer's", do_sample=False))
    try:
        yield "aligned"
    finally:
        del DECODE_TYPES["aligned"], POSITION_WEIGHTS["aligned"]


def left_neighbour_penalty(weight, block_length):
    """SGLang's: a token that stands at the left, in the same block, is less likely."""

    def penalize(input_ids, scores, positions):
        left = input_ids.gather(1, (positions - 1).clamp(min=0)[:, None])
        return scores.scatter_add(1, left, torch.where(positions % block_length > 0, -weight, 0.0)[:, None])

    return [penalize]


def cases(*rules, cut=False):
    """Names of the runs of some rules, for a test, whose text is cut off or isn't; of each rule all but the shortest
    count as slow."""
    found = []
    for rule in sorted(rules):
        its = [name for name in RUNS.keys() - NOT_OURS if rule_of(RUNS[name]) == rule]
        its = [name for name in its if RUNS[name]["settings"].get("truncate_at_eos", False) == cut]
        its.sort(key=lambda name: (RUNS[name]["forwards"], name))
        COVERED.update(its)
        found += [pytest.param(name, marks=[] if i < SHORTEST else pytest.mark.slow) for i, name in enumerate(its)]
    return found


@functools.cache
def toy(name, shifted=False):
    return RuleToy(f"toy.{name}", shifted)


@functools.cache
def block_causal_toy(name, block_length):
    model = RuleToy(f"toy.{name}")
    model.attention_pattern = BlockCausal(block_length)
    return model


@functools.cache
def verifier(name):
    return RuleVerifier(name)


def is_d2f(run):
    """A form of `multiblock` that doesn't see what isn't open."""
    return run["settings"].get("implementation") == "d2f"


def rule_of(run):
    """A name for each kind of runs."""
    return "d2f" if is_d2f(run) else run["rule"]


RULES = {rule_of(run) for run in RUNS.values() if run["id"] not in NOT_OURS}


def filter_of(name):
    """Their trained filter, as a head of ours."""
    tensors = load_file(GOLDEN / "toys.safetensors")
    names = {"w1": "hidden.weight", "b1": "hidden.bias", "w2": "final.weight", "b2": "final.bias"}
    return {ours: tensors[f"{name}.{theirs}"] for theirs, ours in names.items()}


def guided(settings):
    """The version that commits the verifier's own token behind the drafts is the other direction."""
    if settings["version"] == "earlier":
        return {"decode_type": "speculative", "draft_length": settings["gen_length"]}
    share = settings["relative_threshold"] if settings["strategy"] == "topk_relative" else 0.0
    top_k = 1 if settings["strategy"] == "deterministic" else settings["top_k"]
    return {"draft_length": settings["gen_length"], "accept_top_k": top_k, "accept_share": share}


def ours(run, prompts=None, shifted=False, **keywords):
    settings, names = run["settings"], NAMES.get(run["rule"], {})
    said = {new: settings[old] for old, new in names.items() if old in settings}
    said = {name: VALUES.get(value, value) for name, value in said.items()}
    if run["rule"] == "guided":
        said = guided(settings) | {"assistant_model": verifier(settings["verifier"])}
    keywords = {**said, **keywords}
    if "block_length" in settings and "block_length" not in names:
        keywords["block_length"] = settings["block_length"]
    ids = torch.tensor([run["prompt"]] if prompts is None else prompts)
    new_tokens, model = settings.get("gen_length", settings.get("max_gen_length")), toy(run["toy"], shifted)
    keywords.setdefault("eos_token_id", None)
    if run["rule"] in ("editing", "editing_indel") or settings.get("attention") == "block":  # they denoise whole blocks
        new_tokens = len(run["canvas"][0]) - len(run["prompt"])
        model = block_causal_toy(run["toy"], settings["block_length"])
    if rule_of(run) in ("d2f", "lopa") and not settings.get("full_attention"):  # the response begins a block
        model = block_causal_toy(run["toy"], settings["block_length"])
        keywords["align_blocks"] = True
    if run["rule"] == "learn2pd":
        model.unmasking_heads = {"unmasking_filter": filter_of(settings["filter"])}
    if run["rule"] == "editing":
        if keywords.get("editing_threshold", 1) is None or "low_confidence" in settings["implementation"]:
            keywords["editing_threshold"] = 1.0
        if settings["implementation"] == "diffusers":  # the forwards after which it ends, not those that it makes
            keywords["max_post_steps"] += 1
        if settings.get("penalty_lambda"):
            keywords["logits_processor"] = left_neighbour_penalty(settings["penalty_lambda"], settings["block_length"])
    with aligned(run) as kind:
        return model.generate(
            ids.clamp(min=0), attention_mask=(ids >= 0).long(), max_new_tokens=new_tokens, pad_token_id=0,
            return_dict_in_generate=True, output_history=True, **{"decode_type": kind} | keywords,
        )  # fmt: skip


def ends(run):
    """What makes a row of ours end where one of theirs does; d3LLM's fills at once, as EOS-fill does."""
    if rule_of(run) in ("d2f", "lopa"):
        return {"eos_token_id": EOS}
    may_end = any(run["settings"].get(name) for name in ("early_stop", "eos_early_stop", "eos_stop"))
    if not (may_end or run["rule"] in ("guided", "daedal", "credit")):
        return {}
    return {"eos_token_id": EOS} | ({"eos_fill": True} if run["rule"] == "multiblock" else {})


def distinct(canvases):
    """Without steps that change nothing."""
    return [canvas for canvas, _ in itertools.groupby(canvases)]


def equal_canvases(run, out):
    """How many canvases that change something are equal from the first on, and how many ought to be. Where a row of
    ours ends by an end token, with no mask before it, what theirs does afterwards doesn't count."""
    length = out.history.shape[2]
    whole = [canvas + [MASK] * (length - len(canvas)) for canvas in run["canvas"]]  # theirs may lack unopened blocks
    theirs, mine, equal = distinct(whole), distinct(out.history[:, 0].tolist()), 0
    last, ended = mine[-1], out.finish_reason == ["eos"]
    end = last.index(EOS, len(run["prompt"])) + 1 if ended else len(last)
    if ended and mine[-2][:end] == last[:end]:  # the last step only filled what is behind it
        mine.pop()
    for expected, canvas in zip(theirs, mine, strict=False):
        upto = end if ended and canvas is mine[-1] else len(last)
        if expected[:upto] != canvas[:upto]:
            break
        equal += 1
    return equal, len(mine) if ended else max(len(theirs), len(mine))


