"""The mixin that gives a masked diffusion LM its `generate`.

Transformers' `GenerationMixin.generate` prepares inputs, processors, criteria and streamer, and calls `_sample`; here
its hooks are fitted to a canvas, and `_sample` denoises.
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    CompileConfig,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
)
from transformers.generation.configuration_utils import GenerationMode
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList

from conv_dlm.contract import MODELS_AND_GENERATION, check_contract
from conv_dlm.generation.cache import CanvasCache
from conv_dlm.generation.cache_policies import CACHE_POLICIES, CachePolicy
from conv_dlm.generation.canvas import Canvas
from conv_dlm.generation.checks import (
    check_canvas,
    check_fields_matter,
    check_inputs,
    check_speed_fields,
    left_padding,
)
from conv_dlm.generation.configuration import DEFAULT_MAX_NEW_TOKENS, DiffusionGenerationConfig
from conv_dlm.generation.denoiser import Denoiser
from conv_dlm.generation.early_exit import EarlyExit
from conv_dlm.generation.loop import Denoising
from conv_dlm.generation.noise import row_seeds
from conv_dlm.generation.out_of_memory import explain_out_of_memory
from conv_dlm.generation.output import DiffusionGenerateOutput
from conv_dlm.generation.position_weights import POSITION_WEIGHTS, PositionWeights
from conv_dlm.generation.processors import check_processors
from conv_dlm.generation.unmasking_rules import UNMASKING_RULES, UnmaskingRule
from conv_dlm.generation.watching import Watcher

check_contract(MODELS_AND_GENERATION)

# fields that say one thing together: a call that sets one of them replaces the checkpoint's values of all
SAID_TOGETHER = (("max_length", "max_new_tokens"), ("do_sample", "temperature"))
CONTEXT_LENGTH_NAMES = ("max_position_embeddings", "max_sequence_length", "model_length")


class DiffusionGenerationMixin(GenerationMixin):
    """Denoising `generate` for a model that maps ids to logits of the same positions.

    `model.generation_config` is always a `DiffusionGenerationConfig`: whatever is assigned to it is converted.
    Keywords of `generate` beyond Transformers': those of `DiffusionGenerationConfig`, and `generator`, a
    `torch.Generator` or a list of them, one for each row; with one for each row, a row's result does not depend on
    its neighbours. Returns LongTensor [B, P + max_new_tokens], or a `DiffusionGenerateOutput`.
    """

    _supported_generation_modes = [GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE]
    shift_logits = False
    generation_config: DiffusionGenerationConfig
    config: Any

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "generation_config" and isinstance(value, GenerationConfig):
            value = DiffusionGenerationConfig.from_any(value)
            if value.mask_token_id is None:
                value.mask_token_id = getattr(self.config, "mask_token_id", None)
        super().__setattr__(name, value)

    # --- hooks of GenerationMixin.generate, in the order in which it calls them ---

    def _extract_generation_mode_kwargs(self, custom_generate: Any, kwargs: dict, *others: Any) -> dict[str, Any]:
        generator = kwargs.pop("generator", None)
        extracted = super()._extract_generation_mode_kwargs(custom_generate, kwargs, *others)
        if extracted.get("assistant_model") is not None:
            raise ValueError(
                "`assistant_model` has no use: denoising decides several tokens in each forward already. Drop it."
            )
        return extracted | {"generator": generator}

    def _prepare_generation_config(
        self, generation_config: GenerationConfig | None, **kwargs: Any
    ) -> tuple[DiffusionGenerationConfig, dict[str, Any]]:
        config = copy.deepcopy(DiffusionGenerationConfig.from_any(generation_config or DiffusionGenerationConfig()))
        model_kwargs = config.update(**kwargs)
        inherited = self.generation_config.to_dict()
        for together in SAID_TOGETHER:
            if any(getattr(config, name) is not None for name in together):
                inherited |= dict.fromkeys(together)
        inherited |= dict.fromkeys(kwargs)  # `eos_token_id=None` in a call means none, whatever the checkpoint says
        for values in (inherited, DiffusionGenerationConfig._get_default_generation_params()):
            for name, value in values.items():
                if getattr(config, name, None) is None:
                    setattr(config, name, value)
        if config.max_new_tokens is None and config.max_length is None:
            config.max_new_tokens = DEFAULT_MAX_NEW_TOKENS
        config.resolve()
        config.validate()
        given = {name for name, value in kwargs.items() if value is not None} - set(model_kwargs)
        check_fields_matter(config, given)
        return config, model_kwargs

    def _prepare_attention_mask_for_generation(  # type: ignore[override]
        self, inputs_tensor: Tensor, generation_config: DiffusionGenerationConfig, model_kwargs: dict[str, Any]
    ) -> Tensor:
        """Padding is a run of pad tokens at the left. Where the pad id also means something else, a batch must say."""
        everything = torch.ones_like(inputs_tensor, dtype=torch.long)
        pad = generation_config._pad_token_tensor
        if pad is None or inputs_tensor.shape[-1] == 0:
            return everything
        leading = (inputs_tensor != pad).cumsum(1) == 0
        others = (
            generation_config.eos_token_id,
            generation_config.bos_token_id,
            generation_config.mask_token_id,
        )
        meanings = {i for other in others if other is not None for i in (other if isinstance(other, list) else [other])}
        if int(pad) not in meanings:
            return (~leading).long()
        if inputs_tensor.shape[0] > 1 and bool(leading.any()):
            raise ValueError(
                f"`attention_mask` is missing, and the pad id {int(pad)} is also an end, begin or mask token, so that "
                "padding can't be told from text. Pass the tokenizer's `attention_mask`."
            )
        return everything

    def _validate_generated_length(
        self, generation_config: GenerationConfig, input_ids_length: int, has_default_max_length: bool
    ) -> None:
        total = generation_config.max_length
        if total < input_ids_length:
            raise ValueError(
                f"`max_length`={total} is shorter than the prompt ({input_ids_length} tokens); raise it, or set "
                "`max_new_tokens`."
            )
        limits = [getattr(self.config, name, None) for name in CONTEXT_LENGTH_NAMES]
        limit = next((limit for limit in limits if limit is not None), None)
        if limit is not None and total > limit:
            raise ValueError(
                f"The prompt ({input_ids_length} tokens) and `max_new_tokens`={total - input_ids_length} need a "
                f"context of {total}, but the model's is {limit}; shorten the prompt, or lower `max_new_tokens`."
            )

    def _prepare_cache_for_generation(self, *args: Any, **kwargs: Any) -> bool:
        """None of Transformers' caches: attention is bidirectional, and every step sees a new canvas."""
        return False

    def _get_logits_processor(
        self, generation_config: GenerationConfig, *args: Any, **kwargs: Any
    ) -> LogitsProcessorList:
        """Transformers' processors, less those whose part is played by the unmasking rule or the denoiser."""
        if kwargs.get("negative_prompt_ids") is not None:
            raise ValueError(
                "`negative_prompt_ids` is not supported: guidance compares with the masked prompt. Drop it, and set "
                "`guidance_scale` alone."
            )
        config = copy.copy(generation_config)
        for played_elsewhere in ("temperature", "top_k", "guidance_scale", "repetition_penalty"):
            setattr(config, played_elsewhere, None)
        processors = super()._get_logits_processor(config, *args, **kwargs)  # type: ignore[misc]
        check_processors(processors)
        if generation_config.repetition_penalty not in (None, 1.0):
            processors.insert(0, RepetitionPenaltyLogitsProcessor(generation_config.repetition_penalty))
        return processors

    def _sample(  # type: ignore[override]
        self,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: DiffusionGenerationConfig,
        synced_gpus: bool = False,
        streamer: Any = None,
        generator: Any = None,
        **model_kwargs: Any,
    ) -> DiffusionGenerateOutput | Tensor:
        """Denoise the canvas of prompt and response (the place where other models predict token after token)."""
        config, model = generation_config, cast(PreTrainedModel, self)
        input_ids = input_ids.to(model.device)
        padding = left_padding(model_kwargs.get("attention_mask"), input_ids)
        check_inputs(model, input_ids, config, synced_gpus, streamer, model_kwargs)
        canvas, weights, rule, policy = self._parts(input_ids, padding, config)
        watcher = Watcher(
            canvas,
            input_ids.shape[1],
            StoppingCriteriaList(
                c for c in stopping_criteria if not isinstance(c, (EosTokenCriteria, MaxLengthCriteria))
            ),
            streamer,
            config.output_history,
            not rule.revocable,
            config._eos_token_tensor,
        )
        if (watcher.criteria or watcher.rows_may_end) and config._pad_token_tensor is None:
            what = "`RowStreamers`" if watcher.rows_may_end else "Stopping criteria"
            raise ValueError(f"{what} end rows early, and something must follow there; pass `pad_token_id=`.")
        run = Denoising(
            canvas=canvas,
            denoiser=self._denoiser(canvas, padding is not None, config),
            weights=weights,
            rule=rule,
            config=config,
            processors=logits_processor,
            eos_token_ids=config._eos_token_tensor,
            seeds=row_seeds(generator, input_ids.shape[0], input_ids.device),
            policy=policy,
            early_exit=None if config.exit_schedule is None else EarlyExit(config),
            after_step=None if watcher.idle else watcher,
        )
        rows, length = canvas.ids.shape
        with explain_out_of_memory(
            model,
            rows,
            input_ids.shape[1],
            length - input_ids.shape[1],
            guided=config.guidance_scale not in (None, 1),
            cached=policy is not None,
        ):
            forwards = run.run()
        watcher.finish(canvas, run.last)
        sequences, decided = _finished(canvas, watcher.cut, config)
        if not config.return_dict_in_generate:
            return sequences
        history = torch.stack(watcher.history) if watcher.history is not None else None
        per_forward = decided / forwards.clamp(min=1)
        return DiffusionGenerateOutput(sequences, forwards, per_forward, canvas.decided_at, history)

    def _parts(
        self, input_ids: Tensor, padding: Tensor | None, config: DiffusionGenerationConfig
    ) -> tuple[Canvas, PositionWeights, UnmaskingRule, CachePolicy | None]:
        """What a run works with. Raises ValueError for parts that don't go together."""
        canvas = Canvas.from_prompt(input_ids, config.max_length - input_ids.shape[1], config.mask_token_id, padding)
        decode_type = config.resolved_decode_type
        weights = POSITION_WEIGHTS[decode_type.weights].from_config(config)
        rule = UNMASKING_RULES[decode_type.rule](config)
        policy = CACHE_POLICIES[config.cache_implementation](config) if config.cache_implementation else None
        check_canvas(canvas, weights, rule, config)
        check_speed_fields(cast(PreTrainedModel, self), canvas, weights, rule, policy, config)
        return canvas, weights, rule, policy

    def check_generate(self, input_ids: Tensor, **kwargs: Any) -> DiffusionGenerationConfig:
        """Raise the ValueError that `generate` would raise for these arguments, without a forward.

        input_ids: LongTensor [B, P] without padding, on any device.
        kwargs: keywords of `generate` that are fields of `DiffusionGenerationConfig`.

        Returns the settings in force, as `generate` puts them together.
        """
        settings, others = self._prepare_generation_config(None, **kwargs)
        config, prompt_length = copy.deepcopy(settings), input_ids.shape[1]
        self._prepare_special_tokens(config, True, input_ids.device)  # type: ignore[misc]
        if config.max_new_tokens is not None:
            config.max_length = prompt_length + config.max_new_tokens
        self._validate_generated_length(config, prompt_length, False)
        check_inputs(cast(PreTrainedModel, self), input_ids, config, False, None, others)
        self._parts(input_ids, None, config)
        self._get_logits_processor(config, prompt_length, input_ids, None, LogitsProcessorList())
        return settings

    def _denoiser(self, canvas: Canvas, padded: bool, config: DiffusionGenerationConfig) -> Denoiser:
        """The model with what its forwards need in this run."""
        model = cast(PreTrainedModel, self)
        guidance = 1.0 if config.guidance_scale is None else config.guidance_scale
        cache = None
        if config.cache_implementation is not None:
            rows, length = canvas.ids.shape
            cache = CanvasCache(model, rows, length, 1 if guidance == 1 else 2, config.compile)
        compile_config = (config.compile_config or CompileConfig()) if config.compile else None
        padding = canvas.padding if padded else None
        return Denoiser(model, padding, guidance, self.shift_logits, cache, compile_config)


def _finished(canvas: Canvas, cut: Tensor, config: DiffusionGenerationConfig) -> tuple[Tensor, Tensor]:
    """The sequences [B, L], padded after their ends, and how many tokens of each row were decided before that [B]."""
    end = canvas.end_of_text(config._eos_token_tensor)
    position = torch.arange(canvas.ids.shape[1], device=canvas.ids.device)
    behind = ((end.cumsum(1) > 0) & ~end) | (position >= cut.to(position.device)[:, None])
    pad = config._pad_token_tensor
    sequences = canvas.ids if pad is None else torch.where(behind, pad, canvas.ids)
    return sequences, ((canvas.slot >= 0) & ~behind & ~end).sum(1)
