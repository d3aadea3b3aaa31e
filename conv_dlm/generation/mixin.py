"""The mixin that gives a masked diffusion LM its `generate`."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Generator, Tensor
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.generation.streamers import BaseStreamer
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_managed_module

from conv_dlm.contract import MODELS_AND_GENERATION, check_contract
from conv_dlm.generation.attention import BIDIRECTIONAL, AttentionPattern
from conv_dlm.generation.canvas import EOS, LENGTH, REASONS
from conv_dlm.generation.configuration import DiffusionGenerationConfig
from conv_dlm.generation.noise import row_seeds
from conv_dlm.generation.observing import StepEnd
from conv_dlm.generation.output import DiffusionGenerateOutput
from conv_dlm.generation.past import Past
from conv_dlm.generation.prepare import Prepared, prepare
from conv_dlm.generation.resolve import resolve
from conv_dlm.generation.row_adapters import left_clean

check_contract(MODELS_AND_GENERATION)

WHERE_FROM = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder")


class DiffusionGenerationMixin(GenerationMixin):
    """Denoising `generate` for a model that maps ids to logits of the same positions.

    `model.generation_config` is always a `DiffusionGenerationConfig`: whatever is assigned to it is converted.

    Attributes:
        shift_logits (`bool`): whether the logits at a position predict the token at its right (Dream), where the
            generation config doesn't say.
        attention_pattern ([`~conv_dlm.generation.attention.BlockCausal`] or `Bidirectional`): what positions see of
            each other.
        generation_defaults (`dict`): settings of `generate` that `generation_config` gets where it doesn't say others.
    """

    shift_logits = False
    attention_pattern: AttentionPattern = BIDIRECTIONAL
    generation_defaults: Mapping[str, Any] = MappingProxyType({})
    config: Any

    @property
    def generation_config(self) -> DiffusionGenerationConfig:
        """The settings of `generate` where a call doesn't say others."""
        if "_generation_config" not in self.__dict__:
            raise AttributeError("generation_config")
        return cast(DiffusionGenerationConfig, self.__dict__["_generation_config"])

    @generation_config.setter
    def generation_config(self, value: GenerationConfig | None) -> None:
        if value is not None:
            value = DiffusionGenerationConfig.from_any(value)
            if value.mask_token_id is None:
                value.mask_token_id = getattr(self.config, "mask_token_id", None)
            for name, default in self.generation_defaults.items():
                if getattr(value, name) is None:
                    setattr(value, name, default)
        self.__dict__["_generation_config"] = value

    def adjust_generation_fn(self, generation_config: Any, *args: Any, **kwargs: Any) -> None:
        """Read the checkpoint's generation config, as Transformers does where it can.

        Values that its own checks refuse and that mean nothing here, or are fine here, never prevent loading. The cache
        of finished blocks is the default of block-causal attention alone: a checkpoint that is loaded with another one
        has no use for it.
        """
        try:
            cast(Any, super()).adjust_generation_fn(generation_config, *args, **kwargs)
        except (ValueError, TypeError, AttributeError):
            folder = kwargs.get("pretrained_model_name_or_path", args[2] if len(args) > 2 else None)
            if generation_config is not None or folder is None:
                raise
            found = {name: kwargs[name] for name in WHERE_FROM if kwargs.get(name)}
            self.generation_config = DiffusionGenerationConfig.from_pretrained(folder, **found)
        mine = self.__dict__.get("_generation_config")
        if mine is not None and mine.cache_implementation == "block" and self.attention_pattern == BIDIRECTIONAL:
            mine.cache_implementation = None

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Sequence[Any] | None = None,
        stopping_criteria: Sequence[Any] | None = None,
        *,
        attention_mask: Tensor | None = None,
        streamer: BaseStreamer | None = None,
        generator: Generator | Sequence[Generator] | None = None,
        callback_on_step_end: Callable[[StepEnd], bool | None] | None = None,
        tokenizer: Any = None,
        constraint: Any = None,
        assistant_model: Any = None,
        assistant_tokenizer: Any = None,
        past: Past | None = None,
        synced_gpus: bool | None = None,
        **kwargs: Any,
    ) -> DiffusionGenerateOutput | Tensor:
        """Denoise: masks are appended to the prompts, and all masks unmasked step by step.

        Args:
            inputs (`torch.LongTensor` of shape `[B, P]`, *optional*, also as `input_ids`):
                The prompts, padded at the left. Masks inside are unmasked too, with the text on both sides as context.
                Without any, a prompt of the BOS token.
            generation_config (`GenerationConfig`, *optional*):
                Settings that go before the model's own.
            logits_processor (`LogitsProcessorList`, *optional*):
                Functions of ids `[N, L]` and scores `[N, V]`, one row for each position that is predicted. One that has
                arguments `rows`, `positions` (`torch.LongTensor` of shape `[N]`) or `step` gets them. Transformers'
                own that only make sense from left to right are refused.
            stopping_criteria (`StoppingCriteriaList`, *optional*):
                Asked for each row about its text as far as it is unmasked without a gap.
            attention_mask (`torch.Tensor` of shape `[B, P]`, *optional*):
                0 for padding. Needed for batches where the pad token means something else, too.
            streamer (`BaseStreamer`, *optional*):
                Gets the text as it becomes final, and drafts if it has `put_draft`; `RowStreamers` for batches.
            generator (`torch.Generator` or a list of them, *optional*):
                The draws; with one for each row, a row's result does not depend on its neighbours. Default: torch's
                global generator of the CPU.
            callback_on_step_end (callable, *optional*):
                Called after each step with a [`~conv_dlm.generation.StepEnd`]; once it returns `True` the run stops,
                and each row ends at its first mask. An exception that it raises leaves `generate`.
            tokenizer (`PreTrainedTokenizerBase`, *optional*):
                For `stop_strings` and `constraint`.
            constraint ([`~conv_dlm.JSONSchema`], [`~conv_dlm.Regex`], [`~conv_dlm.Choice`], or a list, *optional*):
                The language that responses are in, from the first mask of a row to its end token; a list has one for
                each row, or `None`. Tokens that are committed together can always be completed, so that every finished
                response is in it.
            assistant_model (`PreTrainedModel`, *optional*):
                A causal LM of the same tokenizer, for `decode_type="guided"`, where it passes the denoiser's drafts,
                and `"speculative"`, where the text is its own and the denoiser drafts.
            assistant_tokenizer (`PreTrainedTokenizerBase`, *optional*):
                Its tokenizer, to be compared with `tokenizer`; needed where the models have different numbers of ids.
            past ([`~conv_dlm.Past`], *optional*):
                Keys and values of earlier calls, for models that see block by block: what the prompts have in common
                with them is not computed again. It gets those of this call; begin with an empty one.
            synced_gpus (`bool`, *optional*):
                Not supported where it would be needed (ZeRO-3, FSDP), `False` says that it is not.
            kwargs:
                Settings: fields of [`~conv_dlm.DiffusionGenerationConfig`], which go before `generation_config`.

        Returns:
            `torch.LongTensor` of shape `[B, P + max_new_tokens]`, prompt and response, or with
            `return_dict_in_generate=True` a [`~conv_dlm.generation.DiffusionGenerateOutput`].

        Raises:
            SettingError: something can't be; a ValueError that has `field`, `value` and `remedy`. What was merely said
                in vain is a warning.
        """
        if synced_gpus is None:
            synced_gpus = _is_sharded(self)
        with left_clean(self):  # type: ignore[arg-type]
            prepared = prepare(
                self, inputs, generation_config, logits_processor, stopping_criteria, attention_mask=attention_mask,
                streamer=streamer, generator=generator, callback_on_step_end=callback_on_step_end, tokenizer=tokenizer,
                constraint=constraint, assistant_model=assistant_model, assistant_tokenizer=assistant_tokenizer,
                past=past, synced_gpus=synced_gpus, **kwargs,
            )  # fmt: skip
            input_ids, config, run = prepared.input_ids, prepared.config, prepared.run
            if streamer is not None:
                streamer.put(input_ids.cpu())
            adapters = run.denoiser.adapters
            with contextlib.nullcontext() if adapters is None else adapters.attached():
                run.run(row_seeds(generator, input_ids.shape[0], input_ids.device))
            prepared.observer.finish(run)
            output = _output(prepared)
            assert output.sequences is not None
            return output if config.return_dict_in_generate else output.sequences

    def check_generate(
        self, inputs: Tensor | None = None, *args: Any, strict: bool = False, **kwargs: Any
    ) -> DiffusionGenerationConfig:
        """Raise what `generate` would raise for these arguments, without a forward.

        Args:
            inputs, args, kwargs: as for `generate`.
            strict (`bool`, defaults to `False`):
                Whether what is said in vain is an error too, and not a warning.

        Returns:
            The settings in force, as `generate` puts them together.

        Raises:
            SettingError: as by `generate`.
        """
        return prepare(self, inputs, *args, strict=strict, **kwargs).config

    def resolve_settings(self, **kwargs: Any) -> DiffusionGenerationConfig:
        """The settings in force for these keywords of `generate`, before there is a prompt.

        Raises:
            SettingError: a keyword is unknown, said in vain, or can't be.
        """
        config, unknown, in_vain = resolve(self, None, kwargs)
        if in_vain:
            raise in_vain[0]
        if unknown:
            raise ValueError(f"`generate` does not know {', '.join(unknown)}.")
        return config


def _is_sharded(model: Any) -> bool:
    """Whether every rank has to take part in each forward."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not several or torch.distributed.get_world_size() == 1:
        return False
    return bool(is_deepspeed_zero3_enabled() or is_fsdp_managed_module(cast(PreTrainedModel, model)))


def _output(prepared: Prepared) -> DiffusionGenerateOutput:
    """The sequences, padded after their ends, and what is known of them."""
    run, canvas = prepared.run, prepared.run.canvas
    end = canvas.end_of_text(prepared.eos_token_ids)
    stopped = canvas.reason > EOS
    cut = (canvas.reason != EOS)[:, None] & (canvas.positions >= canvas.end[:, None])
    behind = ((end.cumsum(1) > 0) & ~end) | cut
    pad = prepared.pad_token_id
    sequences = canvas.ids if pad is None else canvas.ids.masked_fill(behind, pad)
    unmasked = ((canvas.mask_index >= 0) & ~behind & ~end).sum(1)
    reason = torch.where(stopped, canvas.reason, torch.where(end.any(1), EOS, LENGTH))
    forwards = torch.tensor(run.forwards, device=canvas.ids.device)
    history = prepared.observer.history
    return DiffusionGenerateOutput(
        sequences=sequences,
        forwards=forwards,
        tokens_per_forward=unmasked / forwards.clamp(min=1),
        unmasked_at=canvas.unmasked_at,
        log_probs=canvas.log_probs,
        finish_reason=[REASONS[index] for index in reason.tolist()],
        history=None if history is None else torch.stack(history),
        past=run.past,
    )
