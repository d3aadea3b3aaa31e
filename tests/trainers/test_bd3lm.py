"""The objective of models that see block by block: masks and logits of the published code, and of each block alone."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conv_dlm.models import Fast_dLLM_QwenForCausalLM, SDARForCausalLM
from tests.models.families import BLOCK_LENGTHS, FIXTURES, load
from tests.tiny import widened
from tests.trainers.test_families import TINY
from trainers import BD3LMTrainer, MDLMTrainingConfig
from trainers.block_diffusion import doubled, mask_blocks, noisy_from, seen_in_training
from trainers.noise import Rows

GOLDEN = ("sdar_tiny", "fast_dllm_v2_tiny")
CLASSES = (SDARForCausalLM, Fast_dLLM_QwenForCausalLM)  # logits of their own position, and shifted ones
BLOCK = 4


def tiny(cls: Any, **fields: Any) -> Any:
    return widened(cls(cls.config_class(**TINY, block_length=BLOCK, **fields)))


def rows_of(count: int) -> Rows:
    return Rows(0, 0, torch.arange(count), count, torch.ones(count))


# The published code


@pytest.mark.parametrize("family", GOLDEN)
def test_the_mask_and_the_logits_of_training(family: str) -> None:
    cases = load_file(Path(FIXTURES, family, "cases.safetensors"))
    ids = cases["train_input_ids"]
    length = ids.shape[1] // 2
    block_length = BLOCK_LENGTHS[family]
    assert torch.equal(seen_in_training(length, block_length), cases["train_attended"])
    noisy, clean = ids[:, :length], ids[:, length:]
    model = load(family)
    hidden = noisy != clean
    inputs = doubled(clean, hidden, torch.ones_like(clean), block_length, model.config.mask_token_id or 135)
    inputs["input_ids"] = ids
    assert torch.equal(inputs["position_ids"], cases["train_position_ids"])
    with torch.no_grad():
        logits = model(**inputs).logits
    torch.testing.assert_close(logits, cases["train_logits"], rtol=1e-4, atol=1e-4)


# Each block alone


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_block_is_seen_as_in_decoding(cls: Any, attention: str) -> None:
    """The model's own forward on the clean blocks before, and the noisy block."""
    model = tiny(cls)
    model.set_attn_implementation(attention)
    ids = torch.randint(10, 200, (2, 11))
    attended = torch.ones_like(ids)
    attended[1, 9:] = 0
    hidden = torch.rand(ids.shape) < 0.5
    with torch.no_grad():
        both = model(**doubled(ids, hidden, attended, BLOCK, 3)).logits
        for start in range(0, 11, BLOCK):
            canvas = ids.clone()
            canvas[:, start:] = ids[:, start:].masked_fill(hidden[:, start:], 3)
            alone = model(canvas, attention_mask=attended).logits[:, start : start + BLOCK]
            known = attended[:, start : start + BLOCK].bool()
            found = both[:, start : min(start + BLOCK, 11)]
            torch.testing.assert_close(found[known], alone[known], rtol=1e-4, atol=1e-4)
        clean = model(ids, attention_mask=attended).logits
    torch.testing.assert_close(both[:, 11:][attended.bool()], clean[attended.bool()], rtol=1e-4, atol=1e-4)


# Masks


@pytest.mark.parametrize("shifted", [False, True])
def test_every_token_of_a_response_is_learnt_once_by_a_pair(shifted: bool) -> None:
    covered = torch.arange(14).expand(3, -1) >= torch.tensor([[2], [5], [13]])
    found = mask_blocks(rows_of(3), covered, torch.ones_like(covered).long(), BLOCK, 1e-3, shifted)
    times = found.masked_BL.int() + found.rest_BL.int() + found.first_BL.int()
    assert torch.equal(times.bool(), covered) and times.max() == 1
    starts = covered & (torch.arange(14) % BLOCK == 0)
    assert torch.equal(found.first_BL, starts & torch.tensor(shifted))


def test_masks_of_a_block_bound_it() -> None:
    """Weighted, every maskable token counts 1 on average, and each block with any has a mask."""
    covered = torch.arange(10).expand(4000, -1) >= 3
    found = mask_blocks(rows_of(4000), covered, torch.ones_like(covered).long(), BLOCK, 1e-3, False)
    counted = (found.masked_BL * found.weight_BL)[:, 3:]
    error = counted.std(0) / math.sqrt(len(counted))
    assert ((counted.mean(0) - 1).abs() < 4 * error + 1e-3).all()
    for block in (slice(3, 4), slice(4, 8), slice(8, 10)):
        assert found.masked_BL[:, block].any(1).all()
    assert not found.masked_BL[:, :3].any()


# The trainer


@pytest.mark.parametrize("complementary", [False, True])
@pytest.mark.parametrize("cls", CLASSES)
def test_both_kinds_train(make_trainer: Any, chats: Any, cls: Any, complementary: bool) -> None:
    settings = dict(trainer=BD3LMTrainer, objective="bd3lm", complementary_masks=complementary)
    trainer = make_trainer(model=tiny(cls), max_steps=6, learning_rate=3e-3, **settings)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    first = trainer.evaluate(chats)["eval_nelbo"]
    trainer.train()
    last = trainer.evaluate(chats)["eval_nelbo"]
    assert [name for name, weight in trainer.model.named_parameters() if torch.equal(weight, before[name])] == []
    assert last < first - 0.2


@pytest.mark.parametrize("cls", CLASSES)
def test_the_loss_is_a_naive_loop_over_blocks(make_trainer: Any, cls: Any) -> None:
    model = tiny(cls)
    trainer = make_trainer(model=copy.deepcopy(model), trainer=BD3LMTrainer, objective="bd3lm")
    batch = {name: value[:2] for name, value in next(iter(trainer.get_train_dataloader())).items()}
    rows = rows_of(2)
    trainer.model.eval()
    with torch.no_grad():
        total = float(trainer.batch_loss(trainer.model, batch, rows).total)
        ids, covered, attended = batch["input_ids"], batch["labels"] != -100, batch["attention_mask"]
        shifted = cls is Fast_dLLM_QwenForCausalLM
        assert noisy_from(covered, BLOCK) > 0  # most of the prompt has no noisy copy
        noise = mask_blocks(rows, covered, attended, BLOCK, 1e-3, shifted)
        expected = 0.0
        for row in range(2):
            for start in range(0, ids.shape[1], BLOCK):
                canvas = ids[row : row + 1].clone()
                inside = torch.arange(ids.shape[1]) >= start
                canvas[0, inside & (noise.masked_BL[row] | noise.padding_BL[row])] = 3
                logits = model(canvas, attention_mask=attended[row : row + 1]).logits[0]
                logits[:, 3] = -math.inf
                log_p = logits.log_softmax(-1)
                for place in range(start, min(start + BLOCK, ids.shape[1])):
                    source = place - 1 if shifted else place
                    if noise.first_BL[row, place]:  # `source` is in the block before, which is clean here
                        expected -= float(log_p[source, ids[row, place]])
                    elif noise.masked_BL[row, place]:
                        expected -= float(noise.weight_BL[row, place] * log_p[source, ids[row, place]])
    assert total == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "bd3lm", "masking": "progressive"}, "masking='progressive'"),
        ({"complementary_masks": True}, "no use without `objective='bd3lm'`"),
        ({"objective": "ar"}, "objective='ar'"),
    ],
)
def test_settings_without_a_use_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MDLMTrainingConfig("out", use_cpu=True, bf16=False, **settings)


def test_models_of_another_attention_are_named(make_trainer: Any) -> None:
    with pytest.raises(ValueError, match="LLaDAModelLM sees the whole canvas"):
        make_trainer(trainer=BD3LMTrainer, objective="bd3lm")
    with pytest.raises(ValueError, match="use BD3LMTrainer"):
        make_trainer(objective="bd3lm")
    with pytest.raises(ValueError, match="SFT has `objective: bd3lm`"):
        make_trainer(model=tiny(SDARForCausalLM))
