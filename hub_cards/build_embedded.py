"""Round a trained LLaDA to 4 bits and write it as the checkpoint that the package carries.

    python -m hub_cards.build_embedded outputs/embedded hub_cards/conv-dlm-gsm8k --data train.jsonl

Matrices are rounded with GPTQ (arXiv 2210.17323): column by column, each column's rounding error made good in those
still to come, as far as the inputs seen on calibration data allow. Inputs are those of the model as it is trained:
questions with answers on a canvas that EOS fill, masked at stratified noise levels. What the rounding costs is measured
on held-out rows, before and after on the same noise, and printed as JSON.
Shapes: R rows, C columns of a matrix; B, L as in `trainers.losses`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import conv_dlm  # noqa: F401  registers LLaDA
from conv_dlm.models.compact import dequantize, quantize, save_compact
from trainers.losses import row_sums, token_log_probs
from trainers.masking import mask_rows
from trainers.noise import Rows

Batch = dict[str, torch.Tensor]

# the checkpoint's own defaults: the canvas that it was trained on, and a kernel as wide as its short lines
DECODING: dict[str, Any] = {"decode_type": "conv", "kernel_size": 32, "steps": 64, "max_new_tokens": 192}


def batches(path: str, rows: slice, tokenizer: PreTrainedTokenizerBase, size: int = 8) -> list[Batch]:
    """Rows of a GSM8K file as batches of similar length, answers filled with EOS up to the canvas that one decodes on.

    Returns:
        Dicts of `ids`, `covered` (the answer and its first EOS) and `attention_mask`, each [B, L], and `index` [B].
    """
    examples = []
    for line in Path(path).read_text(encoding="utf-8").splitlines()[rows]:
        row = json.loads(line)
        turn = [{"role": "user", "content": row["question"]}]
        prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        prompt_ids = tokenizer(prompt, add_special_tokens=False).input_ids
        answer_ids = tokenizer(row["answer"], add_special_tokens=False).input_ids
        examples.append((prompt_ids, [*answer_ids, tokenizer.eos_token_id]))
    examples.sort(key=lambda example: len(example[0]) + len(example[1]))
    result = []
    for start in range(0, len(examples), size):
        group = examples[start : start + size]
        ends = [len(prompt) + max(len(answer), DECODING["max_new_tokens"]) for prompt, answer in group]
        length = max(ends)
        ids = torch.full((len(group), length), tokenizer.pad_token_id)
        covered = torch.zeros(len(group), length, dtype=torch.bool)
        attention_mask = torch.zeros(len(group), length, dtype=torch.long)
        for i, (prompt, answer) in enumerate(group):
            end = len(prompt) + len(answer)
            ids[i, :end] = torch.tensor(prompt + answer)
            ids[i, end : ends[i]] = tokenizer.eos_token_id
            covered[i, len(prompt) : end] = True
            attention_mask[i, : ends[i]] = 1
        index = torch.arange(start, start + len(group))
        result.append({"ids": ids, "covered": covered, "attention_mask": attention_mask, "index": index})
    return result


def noisy_inputs(batch: Batch, mask_token_id: int, rows: int, seed: int) -> tuple[Batch, torch.Tensor]:
    """The model's inputs, their noise stratified over all `rows`, and the weights [B] of each row's masked tokens."""
    key = Rows(seed, 0, batch["index"], rows, torch.ones(len(batch["ids"])))
    drawn = mask_rows(key, batch["covered"], batch["attention_mask"], min_noise=1e-3)
    inputs = {
        "input_ids": batch["ids"].masked_fill(drawn.hidden_BL, mask_token_id),
        "attention_mask": batch["attention_mask"],
        "logits_to_keep": drawn.masked_BL,
    }
    return inputs, drawn.weight_B


@torch.no_grad()
def nelbo(model: PreTrainedModel, data: list[Batch]) -> float:
    """Upper bound of the negative log-likelihood in nats a covered token, always on the same noise."""
    rows, mask_token_id = sum(len(batch["ids"]) for batch in data), model.config.mask_token_id
    total, tokens = 0.0, 0
    for batch in data:
        inputs, weight_B = noisy_inputs(batch, mask_token_id, rows, seed=0)
        kept_BL = inputs["logits_to_keep"]
        log_p_M1 = token_log_probs(model(**inputs).logits, batch["ids"][kept_BL][:, None], mask_token_id)
        total -= float((row_sums(log_p_M1[:, 0], kept_BL) * weight_B).sum())
        tokens += int(batch["covered"].sum())
    return total / tokens


def gptq(weight_RC: torch.Tensor, hessian_CC: torch.Tensor, group_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Round a matrix to 4 bits so that its outputs change least: integers [R, C] and scales [R, groups].

    Args:
        weight_RC (`FloatTensor` [R, C]): the matrix.
        hessian_CC (`FloatTensor` [C, C]): sum of the outer products of its inputs.
        group_size (`int`): columns that share a scale.
    """
    weight = weight_RC.detach().float().clone()
    damping = 0.01 * hessian_CC.diagonal().mean() * torch.eye(len(hessian_CC))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky((hessian_CC + damping).double()))
    factor = torch.linalg.cholesky(inverse, upper=True).float()  # eq. 3 and step 3 of the paper
    integers, scales = torch.empty_like(weight, dtype=torch.int8), []
    for start in range(0, weight.shape[1], group_size):
        stop = start + group_size
        group, errors = weight[:, start:stop], torch.empty(len(weight), group_size)
        _, scale = quantize(group, 4, group_size)
        scales.append(scale)
        for i in range(group_size):
            step = factor[start + i, start:stop]
            rounded = (group[:, i] / scale[:, 0].float()).round().clamp(-8, 7)
            integers[:, start + i] = rounded.to(torch.int8)
            errors[:, i] = (group[:, i] - rounded * scale[:, 0].float()) / step[i]
            group[:, i:] -= errors[:, i, None] * step[i:]
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
    return integers, torch.cat(scales, 1)


@torch.no_grad()
def round_layers(model: PreTrainedModel, data: list[Batch], group_size: int) -> dict[str, Any]:
    """Round the matrices of all blocks, each on the outputs of the rounded blocks before it; changes the model too.

    Returns:
        Integers and scales by parameter name, as [`conv_dlm.models.compact.save_compact`] takes them.
    """
    rows = sum(len(batch["ids"]) for batch in data)
    calls: list[tuple[torch.Tensor, dict[str, Any]]] = []
    first = model.model.layers[0]
    hook = first.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args[0], kwargs)), with_kwargs=True)
    for batch in data:
        model(**noisy_inputs(batch, model.config.mask_token_id, rows, seed=1)[0])
    hook.remove()

    rounded: dict[str, Any] = {}
    for index, layer in enumerate(model.model.layers):
        linears = {name: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
        hessians = input_products(layer, linears, calls, [batch["attention_mask"].bool() for batch in data])
        for name, module in linears.items():
            integers, scale = gptq(module.weight, hessians[name], group_size)
            rounded[f"model.layers.{index}.{name}.weight"] = integers, scale
            module.weight.copy_(dequantize(integers, scale))
        calls = [(layer(hidden, **kwargs), kwargs) for hidden, kwargs in calls]
    return rounded


def input_products(
    layer: nn.Module,
    linears: dict[str, nn.Module],
    calls: list[tuple[torch.Tensor, dict[str, Any]]],
    valid: list[torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Sums of outer products [C, C] of what each linear of a block is given, over positions that are no padding."""
    products: dict[str, torch.Tensor] = {}

    def add(name: str, inputs: torch.Tensor) -> None:
        products[name] = products.get(name, 0) + inputs.T @ inputs

    for (hidden, kwargs), keep in zip(calls, valid, strict=True):
        hooks = [
            module.register_forward_pre_hook(lambda _, args, name=name, keep=keep: add(name, args[0][keep]))
            for name, module in linears.items()
        ]
        layer(hidden, **kwargs)
        for hook in hooks:
            hook.remove()
    return products


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder of the trained model, dense")
    parser.add_argument("target", help="folder to write")
    parser.add_argument("--data", required=True, help="GSM8K's training split as JSON lines")
    parser.add_argument("--calibration-rows", type=int, default=64, help="first rows of the data (default: 64)")
    parser.add_argument("--held-out-rows", type=int, default=64, help="last rows of the data, to measure (default: 64)")
    parser.add_argument("--group-size", type=int, default=48, help="columns that share a scale (default: 48)")
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.source)
    model = AutoModelForCausalLM.from_pretrained(args.source, dtype=torch.float32).eval()
    held_out = batches(args.data, slice(-args.held_out_rows, None), tokenizer)
    before = nelbo(model, held_out)
    rounded = round_layers(model, batches(args.data, slice(args.calibration_rows), tokenizer), args.group_size)
    model.generation_config.update(**DECODING)
    save_compact(model, args.target, bits=4, group_size=args.group_size, rounded=rounded)
    for key in ("is_local", "local_files_only"):  # where it was loaded from is nobody's business
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(args.target)
    after = nelbo(AutoModelForCausalLM.from_pretrained(args.target, dtype=torch.float32).eval(), held_out)
    size = sum(file.stat().st_size for file in Path(args.target).iterdir())
    print(json.dumps({"nelbo_before": round(before, 4), "nelbo_after": round(after, 4), "bytes": size}))


if __name__ == "__main__":
    main()
