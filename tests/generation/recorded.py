"""Whole runs of `generate` on tiny models, for every decode type and cache, and what they gave when recorded.

    python -m tests.generation.recorded        records them again: only where a change of results is meant

Settings are those that a decode type reads, near the edges on purpose: padded rows of different lengths, masks inside a
prompt with text at their right, several end tokens so that rows end early.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from conv_dlm.generation import DECODE_TYPES, UNMASKING_RULES, UnmaskingRule

PATH = Path(__file__).parents[1] / "fixtures" / "generate" / "runs.json"
MASK, PAD = 3, 0
ENDS = [2, *range(244, 260)]
PADDED = [[PAD, PAD, 1, 40, 50, 60], [1, 44, MASK, MASK, 80, 81]]
SIZES = {"steps": 9, "kernel_size": 6, "block_length": 6, "threshold": 0.2, "factor": 2.5, "entropy_bound": 4.0}
SIZES |= {"klass_threshold": 0.02, "kl_threshold": 0.3, "relaxed_threshold": 0.05, "low_threshold": 0.02}
SIZES |= {"remask_threshold": 0.02}
SIZES |= {"wino_threshold": 0.05, "verify_threshold": 0.1, "multiblock_entropy": 4.0, "flight_length": 6}
SIZES |= {"editing_threshold": 0.03, "max_post_steps": 5, "initial_length": 6, "expansion_factor": 3}
SIZES |= {"length_confidence": 0.05, "insert_confidence": 0.2, "unsure_below": 0.02, "eos_check_tokens": 4}
SIZES |= {"exploration_steps": 3, "cycle_threshold": 0.02}
EVERY_WAY = {"ancestral", "confidence", "slide", "remasking", "threshold", "factor", "entropy"}  # with all variants
WINDOW = {"cache_implementation": "window", "cache_refresh_interval": 4, "cache_margin": 1}
ENDING: dict[str, Any] = {"max_new_tokens": 24, "eos_token_id": ENDS}


def cases() -> Iterator[tuple[str, list[list[int]], dict[str, Any]]]:
    """Name, prompts and keywords of each run."""
    for name, kind in DECODE_TYPES.items():
        if not UNMASKING_RULES[kind.rule].is_alone():
            continue
        own = {"decode_type": name, **{field: value for field, value in SIZES.items() if field in kind.fields}}
        if name == "slide":
            own["block_length"] = 10
        rule = UNMASKING_RULES[kind.rule]
        caches: dict[str, dict[str, Any]] = {"": {}}
        if rule.extra is UnmaskingRule.extra:
            caches[" window"] = WINDOW
        if kind.weights == "block" and len(caches) > 1 and (not rule.remasks or rule.within_block):
            caches |= {f" {kept}": {"cache_implementation": kept} for kept in ("prefix", "dual")}
        draws = {"temperature": 0.0} if kind.do_sample else {"temperature": 0.8, "top_k": 5}
        for cache, kept in caches.items():
            for variant, more in (("", {}), (" flipped", draws), (" guided", {"guidance_scale": 1.7})):
                if variant and kind.rule not in EVERY_WAY:
                    continue
                yield f"{name}{cache}{variant}", PADDED, {**ENDING, **own, **kept, **more}
    yield from further_cases()


def further_cases() -> Iterator[tuple[str, list[list[int]], dict[str, Any]]]:
    """What only some types are asked for."""
    one, conv = [[1, 40, 50, 60]], {"decode_type": "conv", "kernel_size": 6, "steps": 12}
    llada = {"decode_type": "llada", "block_length": 8, "steps": 9}
    threshold = {"decode_type": "threshold", "block_length": 8, "threshold": 0.2}
    endless = {"max_new_tokens": 24, "eos_token_id": None}
    infilling = [[1, 40, MASK, MASK, MASK, 50, MASK, MASK, 60], [PAD, PAD, 1, MASK, MASK, MASK, MASK, 50, 70]]
    far = {"max_new_tokens": 90, "eos_token_id": None, "lookahead": 8}
    for kept, cache in (("", {}), (" window", WINDOW)):
        yield f"one row{kept}", one, {**endless, **conv, **cache}
        yield f"whole vocabulary{kept}", PADDED, {**ENDING, **conv, **cache, "top_k": 0, "temperature": 1.3}
        yield f"infilling{kept}", infilling, {**conv, **cache, "max_new_tokens": 0, "eos_token_id": None}
        yield f"eos_fill{kept}", PADDED, {**ENDING, **conv, **cache, "eos_fill": True}
        yield f"eos_threshold{kept}", PADDED, {**ENDING, **conv, **cache, "eos_threshold": 0.05}
        yield f"lookahead{kept}", PADDED, {**far, **conv, **cache}
        for schedule in ("linear", "cosine", "exponential", "staged"):
            early = {"exit_schedule": schedule, "exit_high": 1.5, "exit_low": 0.3}
            patience = {"exit_patience": schedule == "cosine"}
            yield f"{schedule} exit{kept}", PADDED, {**endless, **conv, **cache, **early, **patience}
    for kept, cache in (("", {}), (" dual", {"cache_implementation": "dual"})):
        yield f"llada end tokens last{kept}", PADDED, {**ENDING, **llada, **cache, "confidence_eos_eot_inf": True}
        for measure in ("margin", "entropy"):
            yield f"llada by {measure}{kept}", PADDED, {**ENDING, **llada, **cache, "ranked_by": measure}
        yield f"llada at random{kept}", PADDED, {**ENDING, **llada, **cache, "remasking": "random"}
        yield f"threshold cut{kept}", PADDED, {**ENDING, **threshold, **cache, "eos_threshold": 0.05}
        yield f"threshold infilling{kept}", infilling, {**threshold, **cache, "max_new_tokens": 3}
    yield "reference normalizer", PADDED, {**ENDING, **conv, "top_k": 3, "reference_normalizer": True}
    yield "suppressed", PADDED, {**ENDING, **conv, "suppress_tokens": list(range(100, 200)), "repetition_penalty": 1.4}
    yield "three of a prompt", one, {**endless, **conv, "num_return_sequences": 3}


def run(model: Any, prompts: list[list[int]], keywords: dict[str, Any]) -> dict[str, list]:
    """Tokens, the step that unmasked each of them, and forwards, of every row."""
    ids = torch.tensor(prompts)
    rows = len(prompts) * keywords.get("num_return_sequences", 1)
    output = model.generate(
        ids, attention_mask=(ids != PAD).long(), pad_token_id=PAD, return_dict_in_generate=True,
        generator=[torch.Generator().manual_seed(row) for row in range(rows)], **keywords,
    )  # fmt: skip
    return {
        "tokens": output.sequences.tolist(),
        "steps": output.unmasked_at.tolist(),
        "forwards": output.forwards.tolist(),
    }


def models() -> dict[str, Any]:
    """The models that are run: LLaDA, MDLM, and a LLaDA whose logits predict the token at the right."""
    from tests.generation.test_caches import random_mdlm
    from tests.tiny import random_llada

    shifted = random_llada(n_kv_heads=2)
    shifted.shift_logits = True
    return {"llada": random_llada(), "mdlm": random_mdlm(), "shifted": shifted}


def all_runs() -> Iterator[tuple[str, str, list[list[int]], dict[str, Any]]]:
    """Model, name, prompts, keywords: LLaDA runs everything, the others what their own code may change."""
    few = ("conv", "llada", "one", "infilling", "lookahead", "eos_threshold")
    for kind in ("llada", "mdlm", "shifted"):
        for name, *case in cases():
            if kind == "llada" or name.split()[0] in few:
                yield kind, f"{kind}: {name}", *case


def main() -> None:
    its_models = models()
    runs = {name: run(its_models[kind], prompts, keywords) for kind, name, prompts, keywords in all_runs()}
    PATH.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(result, separators=(',', ':'))}" for name, result in runs.items()]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
