"""The golden data of the published implementations: weights of single steps, and whole deterministic runs."""

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from conv_dlm.generation import noise
from conv_dlm.generation.candidates import best_tokens, draw_candidates
from conv_dlm.generation.parts.ancestral import global_norm, remdm_weights, unmask_probability
from conv_dlm.generation.parts.confidence import quota
from conv_dlm.generation.parts.position_weights import convolution_weights, count_known
from conv_dlm.generation.prepare import prepare
from conv_dlm.generation.schedule import FixedSchedule
from tests.generation.toy import ToyModel, load_golden

ONE_STEP, ONE_STEP_TENSORS = load_golden("one_step")
FULL_RUNS, FULL_RUN_TENSORS = load_golden("full_runs")
SLIDE, SLIDE_TENSORS = load_golden("slide")
MASK = ONE_STEP["mask_id"]
LOOP = dict(alpha_on=0.9, t_on=0.55, t_off=0.05, eta=0.04)


def ids(entries, **only):
    return [pytest.param(e, id=e["id"]) for e in entries if all(e.get(k) == v for k, v in only.items())]


def scores_of(case):
    """Logits of a case as the candidates see them: fp32, penalised where the case says so, without the mask."""
    x, logits = (ONE_STEP_TENSORS[f"{case['batch']}.{name}"] for name in ("x", "logits"))
    scores = logits.clone()
    if "repetition_penalty" in case:  # the reference's rule; ours, which minds the sign, has a test of its own
        for row in range(x.shape[0]):
            scores[row, :, x[row].long().unique()] /= case["repetition_penalty"]
    scores[..., MASK] = -torch.inf
    return x.long(), scores


def step_weights(case, extra_mass):
    """q of the k best tokens [R, L, V], the mask's weight, and the probability that a position is decided."""
    x, scores = scores_of(case)
    undecided = x == MASK
    flat = scores.flatten(0, 1)
    top_k = case.get("k", 0)
    candidates = draw_candidates(flat, top_k, 1.0, torch.zeros(flat.shape[0]), extra_mass if top_k else 0)
    mass, tempered = (c.view(x.shape) for c in (candidates.mass, candidates.tempered_mass))
    weights = torch.ones(x.shape)
    if "kernel_arg" in case:
        weights = convolution_weights(~undecided, case["kernel_arg"], case.get("conv_mult", 1.0))
    t, s = torch.tensor([case["t"]]), torch.tensor([case["t"] - case["dt"]])
    gain, stay = t - s, s
    if "phase" in case:
        gain, stay, _ = remdm_weights(t, s, *(case[n] for n in LOOP))
    norm = global_norm(mass, weights, undecided)
    log_p, token = best_tokens(flat, top_k)
    factor = (weights * (norm * gain)[:, None]).flatten()[:, None]
    q = torch.zeros_like(flat).scatter(-1, token, log_p.exp() * factor).view(scores.shape)
    decide = unmask_probability(tempered * weights * (norm * gain)[:, None], stay, 1.0)
    return undecided, q, stay, decide, norm


@pytest.mark.parametrize("case", ids(ONE_STEP["cases"]))
def test_transition_weights(case):
    undecided, q, stay, decide, norm = step_weights(case, extra_mass=1)
    name = case["id"] + (".q_full" if case["id"] + ".q_full" in ONE_STEP_TENSORS else ".q")
    golden = ONE_STEP_TENSORS[name]
    if case["method"] == "remdm_loop_topk":  # has no global normaliser in the reference
        q = q / norm[:, None, None]
    kept = (q > 0) & undecided[..., None]
    torch.testing.assert_close(q[kept], golden[kept], atol=1e-6 * float(golden[kept].max()), rtol=1e-5)
    mask_weight = golden[..., MASK][undecided]
    torch.testing.assert_close(stay.expand_as(mask_weight), mask_weight, atol=1e-7, rtol=1e-5)
    if case["method"] in ("conv", "categorical") or case["method"] == "remdm_loop_conv":
        assert torch.equal(kept[undecided][:, :MASK], golden[undecided][:, :MASK] > 0)
        probs = ONE_STEP_TENSORS[case["id"] + ".probs"]
        torch.testing.assert_close(decide[undecided], 1 - probs[..., MASK][undecided], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("case", [c for c in ids(ONE_STEP["cases"]) if c.values[0].get("k")])
def test_normaliser_sums_over_the_k_candidates_that_can_be_committed(case):
    *_, norm = step_weights(case, extra_mass=0)
    *_, norm_reference = step_weights(case, extra_mass=1)
    reference, derived = (
        ("s_norm", "derived_s_norm_k") if "kernel_arg" in case else ("global_norm", "derived_global_norm_k")
    )
    if derived in case:
        torch.testing.assert_close(norm, torch.tensor(case[derived]), rtol=1e-5, atol=0)
        torch.testing.assert_close(norm_reference, torch.tensor(case[reference]), rtol=1e-5, atol=0)


def test_convolution():
    for batch in ("b1", "b3"):
        known = ONE_STEP_TENSORS[f"{batch}.x"] != MASK
        for name, golden in ONE_STEP_TENSORS.items():
            if name.startswith(f"{batch}.ker"):
                kernel, what = name.split(".", 1)[1].removeprefix("ker").split(".", 1)
                if what == "u":
                    assert torch.equal(count_known(known, int(kernel)).float(), golden)
                else:
                    s = convolution_weights(known, int(kernel), float(what.removeprefix("s_mult")))
                    torch.testing.assert_close(s, golden, atol=1e-6, rtol=0)


def test_remdm_masks_decided_tokens_again_with_eta():
    gain, stay, again = remdm_weights(torch.tensor([0.7, 0.3, 0.05]), torch.tensor([0.6, 0.2, 0.0]), *LOOP.values())
    assert again.tolist() == pytest.approx([0, 0.04, 0])
    assert (gain + stay <= 1 + 1e-6).all()


def toy_model(golden=FULL_RUNS):
    model = ToyModel(FULL_RUN_TENSORS, golden["mask_id"])
    check = FULL_RUN_TENSORS["toy.check_x"].long()
    assert torch.equal(model(check).logits, FULL_RUN_TENSORS["toy.check_logits"])
    return model


class DivideSeenTokens(LogitsProcessor):
    """The reference's repetition penalty, which doesn't mind the sign."""

    def __init__(self, penalty):
        self.penalty = penalty

    def __call__(self, input_ids, scores):
        return scores.scatter(1, input_ids, scores.gather(1, input_ids) / self.penalty)


def settings_of(run):
    """Keywords of `generate` for a golden run."""
    if run["kind"] == "llada":
        keywords = dict(decode_type="llada", block_length=run["block_length"], guidance_scale=run["cfg_scale"] + 1)
        if run["logits_eos_inf"]:
            keywords["suppress_tokens"] = [FULL_RUNS["eos_id"]]
        return keywords
    if run["kind"] == "llada_conv":
        return dict(
            decode_type="llada_conv",
            kernel_size=run["kernel_arg"],
            conv_mult=float(run["conv_mult"]),
            guidance_scale=run["cfg_scale"] + 1,
        )
    decode_type = {"remdm_loop_topk": "remdm", "remdm_loop_conv": "remdm_conv"}.get(
        run["decode_type"], run["decode_type"]
    )
    keywords = dict(decode_type=decode_type, temperature=0.0, top_k=run["k"], reference_normalizer=True)
    if decode_type == "categorical" or decode_type == "remdm":
        # the reference's ReMDM has no normaliser, nor has the whole vocabulary; the most likely token is the same
        keywords["top_k"] = 0
    if "kernel_arg" in run:
        keywords |= dict(kernel_size=run["kernel_arg"], conv_mult=float(run["conv_mult"]))
    if decode_type.startswith("remdm"):
        keywords |= {name: run[name] for name in LOOP}
    if "repetition_penalty" in run:
        keywords |= dict(
            decode_type="topk", logits_processor=LogitsProcessorList([DivideSeenTokens(run["repetition_penalty"])])
        )
    return keywords


@pytest.mark.parametrize("run", ids(FULL_RUNS["runs"]))
def test_full_run_step_by_step(run):
    if run.get("eos_fill") or run.get("confidence_eos_eot_inf"):
        pytest.skip("has a test of its own below, step by step from the recorded canvases")
    golden = FULL_RUN_TENSORS[f"{run['id']}.canvas"].long()
    model = toy_model()
    out = model.generate(
        golden[0, :, : run["prompt_length"]],
        attention_mask=torch.ones(golden[0, :, : run["prompt_length"]].shape).long(),
        steps=run["steps"],
        max_new_tokens=run["gen_length"],
        return_dict_in_generate=True,
        output_history=True,
        **settings_of(run),
    )
    steps = run["steps"]
    assert torch.equal(out.history[: steps + 1], golden[: len(out.history)])
    assert not (out.sequences == MASK).any()
    decided = golden[-1] != MASK  # the reference may leave masks; ours are filled, and nothing else changes
    assert torch.equal(out.sequences[decided], golden[-1][decided])
    assert (out.unmasked_at[~decided] == steps).all()


def denoising(model, prompt, run, **keywords):
    """The loop of `generate` with its inside at hand."""
    settings = dict(mask_token_id=MASK, steps=run["steps"], max_new_tokens=run["gen_length"]) | keywords
    if settings.get("confidence_eos_eot_inf"):
        settings["eos_token_id"] = [FULL_RUNS["eos_id"], FULL_RUNS["eot_id"]]
    steps = prepare(model, prompt, attention_mask=torch.ones_like(prompt), **settings).run
    steps.noise = noise.Noise(noise.row_seeds(None, prompt.shape[0], prompt.device), steps.canvas.mask_index)
    steps.end_rows = lambda step: None  # the recorded runs go on behind an end token
    return steps


def put(run, canvas):
    run.canvas.ids, run.canvas.masked = canvas, canvas == MASK


def reference_eos_fill(canvas, eos_id):
    """Everything from the second end token on, counted over the whole canvas (see the fixtures' README)."""
    return torch.where((canvas == eos_id).cumsum(1) >= 2, eos_id, canvas)


@pytest.mark.parametrize("run", ids(FULL_RUNS["runs"], eos_fill=True))
def test_steps_of_runs_with_the_references_eos_fill(run):
    golden = FULL_RUN_TENSORS[f"{run['id']}.canvas"].long()
    steps = denoising(toy_model(), golden[0, :, : run["prompt_length"]], run, **settings_of(run))
    for index in range(run["steps"]):
        put(steps, golden[index])
        steps.step(index)
        assert torch.equal(reference_eos_fill(steps.canvas.ids, FULL_RUNS["eos_id"]), golden[index + 1])


@pytest.mark.parametrize("run", [r for r in ids(FULL_RUNS["runs"]) if r.values[0]["kind"].startswith("llada")])
def test_confidences(run):
    golden = FULL_RUN_TENSORS[f"{run['id']}.canvas"].long()
    confidence = FULL_RUN_TENSORS[f"{run['id']}.confidence"]
    keywords = settings_of(run) | ({"confidence_eos_eot_inf": True} if run.get("confidence_eos_eot_inf") else {})
    if keywords.pop("suppress_tokens", None):
        pytest.skip("suppressed tokens are covered by the full run")
    steps = denoising(toy_model(), golden[0, :, : run["prompt_length"]], run, **keywords)
    for index in range(run["steps"]):
        put(steps, golden[index])
        weights = steps.weights.weights(steps.canvas, steps.schedule.step(index, steps.canvas))
        eligible = steps.canvas.masked & (weights > 0)
        steps.step(index)
        ours = (steps.values["confidence"] * weights)[eligible]
        torch.testing.assert_close(ours, confidence[index][eligible], atol=1e-6, rtol=1e-5)
        assert torch.equal(steps.canvas.ids, golden[index + 1])


@pytest.mark.parametrize("run", ids(SLIDE["runs"]))
def test_slide(run):
    golden = SLIDE_TENSORS[f"{run['id']}.canvas"].long()
    steps = denoising(
        toy_model(),
        golden[0, :, : run["prompt_length"]],
        run,
        decode_type="slide",
        block_length=run["window"],
        top_k=run["k"],
        temperature=run["temperature"],
    )
    recorded = {(w["step_index"], w["part"]): w for w in run["weights"]}
    for index in range(run["steps"]):
        put(steps, golden[index])
        steps.step(index)
        front = (
            run["prompt_length"] + run["tokens_per_step"] * index,
            run["prompt_length"] + run["tokens_per_step"] * (index + 1),
        )
        assert not steps.canvas.masked[:, slice(*front)].any()
        if run["temperature"] == 0:
            assert torch.equal(steps.canvas.ids[:, slice(*front)], golden[index + 1][:, slice(*front)])
        if (index, "rear") in recorded:
            check_slide_rear(recorded[index, "rear"], golden[index], run)


def check_slide_rear(entry, canvas, run):
    """The rear's weights; the reference's normaliser counts set tokens too, so it is formed with them here."""
    start, stop = entry["positions"]
    x, golden = canvas[0, start:stop], SLIDE_TENSORS[entry["tensor"]]
    scores = toy_model()(canvas).logits[0, start:stop]
    scores[:, MASK] = -torch.inf
    masked = x == MASK
    found = draw_candidates(scores, run["k"], 1.0, torch.zeros(len(x)), extra_mass=1)
    mass = torch.where(masked, found.mass, 1.0)
    norm = global_norm(mass[None], torch.ones(1, len(x)), torch.ones(1, len(x), dtype=torch.bool))
    assert float(norm) == pytest.approx(entry["global_norm"], rel=1e-5)
    dt = entry["move_chance_t"] - entry["move_chance_s"]
    ours = norm * dt * best_tokens(scores, 1)[0].exp()[:, 0]
    torch.testing.assert_close(ours[masked], golden[masked, :MASK].amax(1), rtol=1e-5, atol=1e-8)


def test_times():
    for steps in (4, 7, 16, 128):
        schedule = FixedSchedule(steps, torch.tensor([1]))
        reference = torch.linspace(1, 1e-5, steps + 1)
        torch.testing.assert_close(schedule.t[:, 0], reference[:-1], atol=2e-7, rtol=0)
        torch.testing.assert_close(schedule.s[:, 0], reference[1:], atol=2e-7, rtol=0)


@pytest.mark.parametrize("example", FULL_RUNS["num_transfer_examples"])
def test_quota(example):
    left, quotas = torch.tensor([example["masked"]]), []
    for step in range(example["steps"]):
        quotas.append(int(quota(left, torch.tensor([example["steps"] - step]))))
        left = left - quotas[-1]
    assert quotas == example["result"]
