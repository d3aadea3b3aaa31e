"""Trainers on models beside LLaDA and MDLM: shifted logits, and what the objective is not of."""

import copy

import pytest
import torch
from peft import LoraConfig

from conv_dlm import models
from conv_dlm.models import A2DQwen3LMHeadModel, DreamModel
from tests.models import families
from tests.tiny import widened
from trainers import BD3LMTrainer, MDLMTrainer, R2FTConfig, R2FTTrainer
from trainers.block_diffusion import noisy_from
from trainers.losses import token_log_probs
from trainers.shifted import predictable, predicting

TINY = dict(
    vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, mask_token_id=3, eos_token_id=2, pad_token_id=0,
)  # fmt: skip
FULL_ATTENTION = [
    model for model in models.MODELS if getattr(model.config_class, "attention_pattern", "full") == "full"
]
BLOCK_CAUSAL = [model for model in models.MODELS if model not in FULL_ATTENTION]


def tiny(cls):
    return widened(cls(cls.config_class(**TINY)))


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize("cls", [DreamModel, A2DQwen3LMHeadModel])
def test_the_loss_is_of_the_logits_that_predict_a_token(make_trainer, monkeypatch, cls, adapters):
    model = tiny(cls)
    lora = LoraConfig(r=2) if adapters else None  # where adapters go follows from the model
    trainer = make_trainer(model=copy.deepcopy(model), peft_config=lora)
    seen = []
    trainer.model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    with torch.no_grad():
        total = trainer.batch_loss(trainer.model, dict(batch), trainer._next_rows(batch["input_ids"])).outputs.logits
    noisy, kept = seen[0]["input_ids"], seen[0]["logits_to_keep"]
    target = kept.roll(1, 1) if cls is DreamModel else kept
    assert (noisy[target] == 3).all()
    logits = model(noisy, attention_mask=batch["attention_mask"]).logits
    if cls is DreamModel:
        logits = torch.cat([logits[:, :1], logits[:, :-1]], 1)
    expected = token_log_probs(logits[target], batch["input_ids"][target][:, None], 3)
    torch.testing.assert_close(token_log_probs(total, batch["input_ids"][target][:, None], 3), expected)


@pytest.mark.parametrize("cls", FULL_ATTENTION)
def test_both_trainers_train(make_trainer, chats, cls):
    for kinds in ({}, {"trainer": R2FTTrainer, "config": R2FTConfig, "canvas_length": 40}):
        rows = chats.select(range(4))
        trainer = make_trainer(model=families.tiny(cls.__name__), train_dataset=rows, max_steps=1, **kinds)
        before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
        trainer.train()
        assert all(not torch.equal(weight, before[name]) for name, weight in trainer.model.named_parameters())


def test_nothing_predicts_the_first_position_of_shifted_logits():
    target = torch.tensor([[True, False, True, False], [False, True, False, True]])
    dream = tiny(DreamModel)
    assert predictable(dream, target).tolist() == [[False, False, True, False], [False, True, False, True]]
    assert predicting(dream, predictable(dream, target)).tolist() == [
        [False, True, False, False],
        [True, False, True, False],
    ]
    assert target[0, 0]  # left as it was


@pytest.mark.parametrize("cls", BLOCK_CAUSAL)
def test_block_causal_models_are_refused(make_trainer, cls):
    with pytest.raises(ValueError, match=f"{cls.__name__} has `attention_pattern='block_causal'`"):
        make_trainer(model=families.tiny(cls.__name__))


@pytest.mark.parametrize("cls", BLOCK_CAUSAL)
def test_block_by_block_they_train(make_trainer, chats, cls):
    options = dict(train_dataset=chats.select(range(4)), max_steps=1, trainer=BD3LMTrainer, objective="bd3lm")
    trainer = make_trainer(model=families.tiny(cls.__name__), **options)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    assert all(not torch.equal(weight, before[name]) for name, weight in trainer.model.named_parameters())


@pytest.mark.parametrize("name", ["LLaDAMoEModelLM", "SDARMoeForCausalLM"])
def test_the_routers_loss_is_an_option(make_trainer, chats, name):
    """Off, the router has the gradient of the bound alone; on, that of a balanced choice too, weighed by tokens."""
    model, gradients, seen = families.tiny(name), {}, {}
    objective = "bd3lm" if name.startswith("SDAR") else "mdlm"
    for coefficient in (0.0, 0.5):
        trainer = make_trainer(
            model=copy.deepcopy(model), train_dataset=chats.select(range(4)), objective=objective,
            trainer=BD3LMTrainer if objective == "bd3lm" else MDLMTrainer, router_aux_loss_coef=coefficient,
        )  # fmt: skip
        trainer.model.train()
        batch = next(iter(trainer.get_train_dataloader()))
        calls = []
        trainer.model.register_forward_hook(lambda _, args, out, calls=calls: calls.append(out))
        trainer.compute_loss(trainer.model, dict(batch)).backward()
        gates = [weight for key, weight in trainer.model.named_parameters() if key.endswith("gate.weight")]
        gradients[coefficient] = torch.stack([gate.grad for gate in gates])
        seen[coefficient] = calls[0].get("router_logits")
        logged = trainer._ratios["train"].read(trainer.accelerator)
    assert seen[0.0] is None
    mask = batch["attention_mask"]
    if objective == "bd3lm":
        start = noisy_from(batch["labels"] != -100, model.attention_pattern.block_length)
        mask = torch.cat([mask[:, start:], mask], 1)
    (logits,) = seen[0.5]
    p = logits.detach().softmax(-1)[mask.flatten().bool()]
    chosen = torch.zeros_like(p).scatter(1, p.topk(2, dim=-1).indices, 1.0)
    by_hand = 4 * (chosen.mean(0) * p.mean(0)).sum()
    assert logged["router_aux_loss"] == pytest.approx(float(by_hand), rel=1e-5)
    assert not torch.allclose(gradients[0.0], gradients[0.5], atol=1e-6)


def test_a_router_without_such_a_loss_is_named(make_trainer):
    for name in ("LLaDA2MoeModelLM", "DreamModel"):
        with pytest.raises(ValueError, match="`router_aux_loss_coef"):
            make_trainer(
                model=families.tiny(name), router_aux_loss_coef=0.1,
                **({"objective": "bd3lm", "trainer": BD3LMTrainer} if name.startswith("LLaDA2") else {}),
            )  # fmt: skip
