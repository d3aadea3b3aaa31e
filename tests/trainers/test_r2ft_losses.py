"""R2FT's and SFT's losses: equal to those that the published implementation computed on recorded inputs."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainers import R2FTTrainer, noise
from trainers.corruption import Corruption, Examples
from trainers.losses import noise_levels, r2ft_losses, r2ft_margins, row_sums, token_log_probs
from trainers.noise import Rows

FIXTURES = Path(__file__).parents[1] / "fixtures" / "r2ft"
RECORDED = json.loads((FIXTURES / "losses.json").read_text())
EOS, MASK = RECORDED["eos_id"], RECORDED["mask_id"]


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / "losses.safetensors")


def pretraining(golden: dict[str, torch.Tensor], over_sequence: bool) -> tuple[Examples, Corruption]:
    ids, masked = golden["pretrain.x0"].long(), golden["pretrain.mask"]
    rows, length = ids.shape
    inner = torch.ones(length, dtype=torch.bool)
    inner[[0, -1]] = False
    count = torch.full((rows,), length) if over_sequence else masked.sum(1)
    whole = torch.full((rows,), length)
    examples = Examples(ids, torch.ones_like(masked), torch.zeros_like(whole), whole, whole)
    return examples, Corruption(masked, golden["pretrain.xb"].long(), masked & inner, masked, count, count)


def fine_tuning(golden: dict[str, torch.Tensor]) -> tuple[Examples, Corruption]:
    ids, response = golden["finetune.x0"].long(), golden["finetune.attention_mask"].bool()
    rejects = golden["finetune.repeat_mask"]
    start, length = response.int().argmax(1), torch.full((len(ids),), ids.shape[1])
    examples = Examples(ids, response, start, start + response.sum(1) - 1, length)
    masked = golden["finetune.xt"] == MASK
    return examples, Corruption(
        masked, golden["finetune.xb"].long(), rejects, response, response.sum(1), rejects.sum(1)
    )


def batch_loss(
    entry: dict[str, Any], examples: Examples, corruption: Corruption, logits: torch.Tensor, noisy: torch.Tensor
) -> Any:
    """`R2FTTrainer.batch_loss` with the recorded corruption, and a model that gives the recorded logits."""

    def model(input_ids: torch.Tensor, logits_to_keep: torch.Tensor, **kwargs: Any) -> SimpleNamespace:
        assert torch.equal(input_ids, noisy)
        return SimpleNamespace(logits=logits[logits_to_keep])

    args = SimpleNamespace(**{name: entry[name] for name in ("beta_w", "beta_l", "beta_a", "gamma")})
    trainer = SimpleNamespace(
        args=args,
        mask_token_id=MASK,
        model=SimpleNamespace(training=True),
        _tokenizer=SimpleNamespace(eos_token_id=EOS),
        corrupt=lambda batch, rows: corruption,
    )
    rows = Rows(0, 0, torch.arange(len(logits)), len(logits), torch.ones(len(logits)))
    inputs = {
        "input_ids": examples.ids_BL,
        "labels": examples.ids_BL.masked_fill(~examples.response_BL, -100),
        "attention_mask": torch.ones_like(examples.ids_BL),
    }
    return R2FTTrainer.batch_loss(trainer, model, inputs, rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("entry", RECORDED["r2ft"], ids=lambda entry: entry["id"])
def test_r2ft_loss_equals_the_published_one(golden, entry):
    variant = "pretrain" if entry["kind"] == "r2ft_pretrain" else "finetune"
    if variant == "pretrain":
        examples, corruption = pretraining(golden, entry["denom"] == "seq_len")
    else:
        examples, corruption = fine_tuning(golden)
    logits = golden[f"{variant}.logits"].double().requires_grad_()
    batch = batch_loss(entry, examples, corruption, logits, golden[f"{variant}.xt"].long())
    assert batch.total.item() == pytest.approx(entry["loss_float64"], rel=1e-6)
    terms = batch.ratios["loss/preference"][0] + batch.ratios["loss/anchor"][0]
    assert terms.item() == pytest.approx(entry["loss_float64"], rel=1e-6)

    for name, key, count in (
        ("logps/chosen", "sum_log_p_w", corruption.chosen_count_B),
        ("logps/rejected", "sum_log_p_l", corruption.rejected_count_B),
    ):
        expected = (torch.tensor(entry[key], dtype=torch.float64) / count).mean().item()
        total, rows = batch.ratios[name]
        assert (total / rows).item() == pytest.approx(expected, rel=1e-5)

    batch.total.backward()
    assert logits.grad.norm().item() == pytest.approx(entry["grad_norm"], rel=1e-4)
    if "grad_tensor" in entry:
        torch.testing.assert_close(logits.grad.float(), golden[entry["grad_tensor"]], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("variant", ["pretrain", "finetune"])
def test_log_probabilities_equal_the_published_ones(golden, variant):
    examples, corruption = pretraining(golden, False) if variant == "pretrain" else fine_tuning(golden)
    logits = golden[f"{variant}.logits"]
    for name, targets, counted in (
        ("log_p_w", examples.ids_BL, corruption.chosen_BL),
        ("log_p_l", corruption.rejected_BL, corruption.rejects_BL),
    ):
        log_p = token_log_probs(logits[counted], targets[counted][:, None], MASK).squeeze(1)
        recorded = golden[f"{variant}.{name}"]
        torch.testing.assert_close(log_p, recorded[counted], rtol=1e-5, atol=1e-6)
        assert not recorded[~counted].any()


def test_a_very_negative_margin_has_a_finite_loss():
    chosen = torch.tensor([-300.0])
    loss, anchor = r2ft_losses(r2ft_margins(chosen, torch.tensor([0.0]), 1.0, 1.0, 0.0), chosen, beta_a=0.0)
    assert loss.item() == RECORDED["sigmoid_underflow"]["float64_value"]
    assert anchor.item() == 0


@pytest.mark.parametrize("entry", RECORDED["sft"], ids=lambda entry: entry["id"])
@pytest.mark.parametrize("cover", ["response", "response_and_eos"])
def test_the_bound_equals_the_published_loss(golden, entry, cover):
    """On the recorded masks: the published code masks with probability 0.999 t, and weights with 1/t as we do."""
    ids, noisy = golden["sft.x0"].long(), golden[f"{entry['id']}.xt"]
    covered = golden["sft.attention_mask"].bool() if cover == "response" else golden["sft.xT"] == MASK
    masked = (noisy == MASK) & covered
    log_p = token_log_probs(golden["sft.logits"].double()[masked], ids[masked][:, None], MASK).squeeze(1)
    sums = -row_sums(log_p, masked) / torch.tensor(entry["t"], dtype=torch.float64)
    assert sums.tolist() == pytest.approx(entry[cover]["per_sample_sum"], rel=1e-5)
    assert (sums.sum() / covered.sum()).item() == pytest.approx(entry[cover]["loss_float64"], rel=1e-6)
    assert covered.sum() == entry[cover]["count"]


@pytest.mark.parametrize("entry", [entry for entry in RECORDED["time_sampling"] if entry["antithetic"]])
def test_noise_levels_equal_the_published_ones(entry):
    rows = entry["n"]
    levels = noise_levels(torch.tensor(entry["uniform"]), torch.arange(rows), rows, entry["sampling_eps"])
    assert levels.tolist() == pytest.approx(entry["t"], rel=1e-6)


def test_strata_are_dealt_anew_in_each_step():
    rows = torch.arange(16)
    dealt = [noise.strata(0, step, rows, 16).tolist() for step in range(3)]
    assert all(sorted(order) == list(range(16)) for order in dealt)
    assert dealt[0] != dealt[1] != dealt[2] != dealt[0]
