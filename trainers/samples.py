"""Samples at evaluation: the first prompts of the evaluation set, generated with the current weights.

They go to `samples.jsonl` in the output folder, onto the screen, and to TensorBoard, W&B and Trackio where these are
reported to.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from textwrap import indent
from typing import Any, cast

import torch
from datasets import Dataset
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from conv_dlm import DiffusionGenerationMixin
from conv_dlm.answering.batching import pad_left, row_generator
from conv_dlm.utils.text import to_json, well_formed
from trainers.mdlm_config import MDLMTrainingConfig

SAMPLES_FILE = "samples.jsonl"
Sample = dict[str, Any]  # step, data (name of the evaluation set), prompt, sample, reference


def sample_options(args: MDLMTrainingConfig, model: Any, eval_dataset: Any) -> dict[str, Any]:
    """Keywords of `generate`, checked: Conv on the canvas of the config, unless that says otherwise.

    Args:
        model: with the `generate` of `conv_dlm`, and no adapter around it.
        eval_dataset ([`~datasets.Dataset`] or `dict` of these, *optional*): tokenized.

    Raises:
        `ValueError`: no evaluation set, a model that does not denoise, keywords that `generate` would refuse, prompts
            that leave no room.
    """
    if not eval_dataset:
        raise ValueError(f"`eval_samples={args.eval_samples}` needs prompts: give the trainer an `eval_dataset`.")
    canvas = {} if args.canvas_length is None else {"max_new_tokens": args.canvas_length}
    if not isinstance(model, DiffusionGenerationMixin):
        raise ValueError(
            f"`eval_samples={args.eval_samples}` are decoded by denoising, which `generate` of {type(model).__name__} "
            "does not do: drop it, or for a denoiser see `conv_dlm.enable_diffusion`."
        )
    options: dict[str, Any] = {"decode_type": "conv"} | canvas | cast(dict[str, Any], args.eval_sample_kwargs or {})
    try:
        datasets = eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]
        longest = max(len(split_row(row)[0]) for dataset in datasets for row in islice(dataset, args.eval_samples))
        any_text = torch.full((1, longest), int(model.generation_config.mask_token_id == 0))
        model.check_generate(any_text, attention_mask=torch.ones_like(any_text), strict=True, **options)
    except ValueError as error:
        raise ValueError(
            f"The samples that `eval_samples={args.eval_samples}` asks for are impossible. {error}"
        ) from error
    return options


def split_row(row: Mapping[str, list[int]]) -> tuple[list[int], list[int]]:
    """A tokenized row's prompt and (last) response: what stands before its last run of labels, and that run.

    Plain text is all response; of that the first token is the prompt, since decoding begins near something known.
    """
    ids, covered = row["input_ids"], [label != -100 for label in row["labels"]]
    end = len(covered) - covered[::-1].index(True)
    start = end - next((n for n, label in enumerate(covered[:end][::-1]) if not label), end)
    return ids[: max(start, 1)], ids[max(start, 1) : end]


def decode(
    model: Any,
    prompts: list[list[int]],
    indices: Iterable[int],
    pad_token_id: int,
    **options: Any,
) -> list[list[int]]:
    """Generate a response to each prompt.

    Args:
        prompts (list of lists of `int`): token ids.
        indices (iterable of `int`): the number of each prompt. It seeds the prompt's random numbers, as in
            `conv-dlm generate --seed 0`, so that its response does not depend on its batch.
        pad_token_id (`int`): pads the prompts.
        options: keywords of `generate`.

    Returns:
        list of lists of `int`: the responses without their prompts.
    """
    ids_BL, mask_BL = pad_left(prompts, pad_token_id)
    # Sharded models decode alike on every rank, so that no rank waits for another's forwards.
    output = model.generate(
        input_ids=ids_BL.to(model.device),
        attention_mask=mask_BL.to(model.device),
        generator=[row_generator(0, index) for index in indices],
        synced_gpus=False,
        return_dict_in_generate=False,
        **options,
    )
    return output[:, ids_BL.shape[1] :].tolist()


def write(path: Path, samples: list[Sample]) -> None:
    """Add the samples of a step to the file, in place of older ones of this step, and of later ones of a run resumed.

    The file is replaced as a whole, so that it is never half written.
    """
    step, data = samples[0]["step"], samples[0]["data"]
    # Not `splitlines`: texts may hold other line separators, which JSON does not escape.
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.loads(line) for line in text.split("\n") if line]
    kept = [line for line in lines if line["step"] < step or (line["step"] == step and line["data"] != data)]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text("".join(to_json(line) + "\n" for line in kept + samples), encoding="utf-8")
    os.replace(new, path)


def report(samples: list[Sample], callbacks: Iterable[TrainerCallback]) -> None:
    """Send samples to the trackers among a trainer's callbacks."""
    name, step = f"{samples[0]['data']}/samples", samples[0]["step"]
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            # Indented, so that Markdown leaves the texts as they are.
            text = "\n\n---\n\n".join(indent(show(sample), "    ") for sample in samples)
            callback.tb_writer.add_text(name, text, step)
        elif isinstance(callback, WandbCallback | TrackioCallback) and callback._initialized:
            tracker = callback._wandb if isinstance(callback, WandbCallback) else callback._trackio
            table = tracker.Table(dataframe=Dataset.from_list(samples).to_pandas())
            tracker.log({name: table, "train/global_step": step})


def show(sample: Sample) -> str:
    """A sample as text."""
    return f"{sample['prompt']}\n--- step {sample['step']}:\n{sample['sample']}\n--- reference:\n{sample['reference']}"


def say(text: str) -> None:
    """Print a text; characters that the console can't show are replaced, so that none ends a run."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


class SampleCallback(TrainerCallback):
    """Decodes `eval_samples` prompts after each evaluation.

    Args:
        trainer ([`~transformers.Trainer`]): whose callbacks report.
        options: keywords of `generate`.
        sharded (`bool`): whether every rank has to take part in a forward.
    """

    def __init__(self, trainer: Trainer, options: dict[str, Any], sharded: bool):
        self.trainer, self.options, self.sharded = trainer, options, sharded

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """`kwargs` hold the trainer's `model`, `processing_class` and `eval_dataloader`, and the new `metrics`."""
        if not (self.sharded or state.is_world_process_zero):
            return
        model, tokenizer = kwargs["model"], kwargs["processing_class"]
        rows = [split_row(row) for row in islice(kwargs["eval_dataloader"].dataset, args.eval_samples)]
        prompts = [prompt for prompt, _ in rows]
        model.eval()
        answers: list[list[int]] = []
        for first in range(0, len(prompts), args.per_device_eval_batch_size):
            batch = prompts[first : first + args.per_device_eval_batch_size]
            indices = range(first, first + len(batch))
            answers += decode(model, batch, indices, tokenizer.pad_token_id, **self.options)
        if not state.is_world_process_zero:
            return
        data = next(key for key in kwargs["metrics"] if key.endswith("_loss")).removesuffix("_loss")
        samples = [
            {
                "step": state.global_step,
                "data": data,
                "prompt": well_formed(tokenizer.decode(prompt)),
                "sample": well_formed(tokenizer.decode(answer, skip_special_tokens=True)),
                "reference": well_formed(tokenizer.decode(reference, skip_special_tokens=True)),
            }
            for (prompt, reference), answer in zip(rows, answers, strict=True)
        ]
        write(Path(args.output_dir, SAMPLES_FILE), samples)
        say("\n\n".join(map(show, samples)))
        report(samples, self.trainer.callback_handler.callbacks)
