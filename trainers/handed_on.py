"""Settings that a run hands on to functions of other libraries, tried before anything is loaded."""

import copy
import dataclasses
import inspect
from collections.abc import Callable, Collection
from typing import Any

import torch
from accelerate.utils import GradientAccumulationPlugin
from torch.utils.checkpoint import checkpoint
from transformers import Trainer, get_scheduler
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)
from transformers.trainer_pt_utils import AcceleratorConfig

from trainers.values import read_values

OF_TRAINER = {"every_n_layers", "offload", "selective"}  # keys of activation checkpointing that PyTorch doesn't get
FLAGS = ("use_reentrant", "preserve_rng_state", "debug", "early_stop", "offload")
KEYS = {
    "accelerator_config": {field.name for field in dataclasses.fields(AcceleratorConfig)},
    "dataset_kwargs": {"skip_prepare_dataset"},
    "fsdp_config": {
        "version", "reshard_after_forward", "cpu_offload", "activation_checkpointing", "cpu_ram_efficient_loading",
        "state_dict_type", "auto_wrap_policy", "transformer_layer_cls_to_wrap", "min_num_params", "xla",
        "xla_fsdp_settings", "xla_fsdp_grad_ckpt", "xla_fsdp_v2", "forward_prefetch", "backward_prefetch",
        "use_orig_params", "sync_module_states", "limit_all_gathers",
    },
}  # fmt: skip
WITHOUT_SETTINGS = ("constant", "constant_with_warmup")  # schedules that take none


def check_keys(config: Any) -> None:
    """Raise ValueError for an unknown key in a mapping whose keys are known."""
    for name, known in KEYS.items():
        given = getattr(config, name, None)
        for key in given if isinstance(given, dict) else ():
            if key.removeprefix("fsdp_") not in known and key not in known:
                raise ValueError(f"`{name}` has the unknown key {key!r}; it may have {_listed(known)}.")


def try_what_is_handed_on(config: Any) -> None:
    """Raise ValueError for settings that the schedule, the optimizer, Accelerate, trackers or PyTorch refuse."""
    _try_schedule(config)
    _try_accelerate(config.accelerator_config)
    for tracker in config.report_to:
        if tracker in INTEGRATION_TO_CALLBACK and tracker not in get_available_reporting_integrations():
            raise ValueError(f"`report_to` names {tracker!r}, which is not installed; install it, or drop the name.")
    if getattr(config, "activation_offloading", False) and (config.use_cpu or not torch.accelerator.is_available()):
        raise ValueError("`activation_offloading` needs an accelerator to offload from; leave it out.")
    if config.fsdp_config and not config.fsdp:
        raise ValueError("`fsdp_config` has no effect without `fsdp: true`; set that, or leave it out.")
    _try_optimizer(config)
    for name in ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"):
        _try_checkpointing(name, getattr(config, name, None) or {})


def _try_schedule(config: Any) -> None:
    name, given = config.lr_scheduler_type, config.lr_scheduler_kwargs or {}
    if given and name in WITHOUT_SETTINGS:
        raise ValueError(f"`lr_scheduler_kwargs` has no effect with `lr_scheduler_type='{name.value}'`; leave it out.")

    def make_and_use() -> None:
        weights = [torch.nn.Parameter(torch.zeros(1))]
        schedule = get_scheduler(name, torch.optim.SGD(weights, 1e-3), 2, 8, dict(given))
        if name not in ("reduce_lr_on_plateau", "greedy"):  # whose steps take a loss
            for _ in range(8):
                schedule.optimizer.step()
                schedule.step()

    _try(make_and_use, f"`lr_scheduler_kwargs={given}` does not fit `lr_scheduler_type='{name.value}'`")


def _try_optimizer(config: Any) -> None:
    parts = [part for part in (config.optim_args or "").replace(" ", "").split(",") if part]
    for part in parts:
        if part.count("=") != 1:
            raise ValueError(f"`optim_args={config.optim_args!r}` must be names and values, as in 'rank=64,scale=0.1'.")

    def made(optim_args: str | None) -> Any:
        tried = copy.copy(config)
        tried.optim_args = optim_args
        return Trainer.get_optimizer_cls_and_kwargs(tried)

    try:
        plain = made(None)
    except (ImportError, ValueError, AttributeError):  # without its package, or the model, nobody can say
        return
    for name, _, value in (part.partition("=") for part in parts):
        try:
            read = made(f"{name}=?") != plain  # no value at all, so that what is read is another one or an error
        except Exception:
            read = True
        if not read:
            raise ValueError(
                f"`optim_args` has {name}={value}, which `optim={str(config.optim.value)!r}` doesn't read. Drop it."
            )


def _try_accelerate(given: AcceleratorConfig) -> None:
    read_values(given)
    plugin = {"num_steps": 1} | (given.gradient_accumulation_kwargs or {})
    _try(lambda: GradientAccumulationPlugin(**plugin), f"`gradient_accumulation_kwargs={plugin}` can't be")


def _try_checkpointing(name: str, given: dict[str, Any]) -> None:
    layers = given.get("every_n_layers", 1)
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise ValueError(f"`{name}` has `every_n_layers={layers!r}`; it must be a whole number of at least 1.")
    for key in FLAGS:
        if not isinstance(given.get(key, False), bool | None):
            raise ValueError(f"`{name}` has `{key}={given[key]!r}`; it must be true or false.")
    handed_on = {"use_reentrant": False} | {key: value for key, value in given.items() if key not in OF_TRAINER}
    if len(handed_on) == 1 and "use_reentrant" not in given:
        return
    known = {*OF_TRAINER, *inspect.signature(checkpoint).parameters} - {"function", "args", "kwargs"}
    for key in given:
        if key not in known:
            raise ValueError(f"`{name}` has the unknown key {key!r}; it may have {_listed(known)}.")
    _try(lambda: checkpoint(torch.neg, torch.zeros(1, requires_grad=True), **handed_on), f"`{name}={given}` can't be")


def _try(use: Callable[[], Any], what: str) -> None:
    try:
        use()
    except (TypeError, ValueError, AttributeError, AssertionError, ZeroDivisionError, RuntimeError) as error:
        raise ValueError(f"{what}: {' '.join(str(error).split()).rstrip('.')}.") from error


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
