"""What this package overrides and relies on in Transformers, TRL and PEFT, much of it private, checked on import.

A release that changed one of these is refused with a sentence that names it. Without that, an override that nobody
calls any more, or an argument that arrives under another name, would decode or train wrongly without an error.

A row is a path and its parameters. `a|b` is a parameter that has had two names. `...` at the end: more may follow, as
long as they are optional, for what is called or hands on whatever it is given; without it none may, since an override
would not know them. None: an attribute of a class, which only has to be there.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

Contract = Mapping[str, str | None]

# Checked by `import conv_dlm`, and by a checkpoint that brings its code.
MODELS_AND_GENERATION: Contract = {
    # Overridden for `generate`
    "transformers.GenerationMixin.generate": "self, inputs, generation_config, ...",
    "transformers.GenerationMixin.adjust_generation_fn": "self, generation_config, from_auto_class, from_pipeline, "
    "pretrained_model_name_or_path, cache_dir, force_download, proxies, local_files_only, token, revision, subfolder, "
    "trust_remote_code, **kwargs",
    # Called by it
    "transformers.integrations.deepspeed.is_deepspeed_zero3_enabled": "",
    "transformers.integrations.fsdp.is_fsdp_managed_module": "module",
    "transformers.PreTrainedModel.get_compiled_call": "self, compile_config, ...",
    # Overridden by the generation config
    "transformers.GenerationConfig._get_default_generation_params": "",
    "transformers.GenerationConfig.from_model_config": "model_config",
    "transformers.GenerationConfig.from_dict": "config_dict, **kwargs",
    "transformers.GenerationConfig.to_diff_dict": "self",
    "transformers.GenerationConfig.validate": "self, strict, user_set_attributes",
    # Overridden by streamers
    "transformers.generation.streamers.BaseStreamer.put": "self, value",
    "transformers.generation.streamers.BaseStreamer.end": "self",
    "transformers.TextDiffusionStreamer.put": "self, value",
    "transformers.TextDiffusionStreamer.put_draft": "self, value, **kwargs",
    "transformers.TextDiffusionStreamer.end": "self",
    "transformers.TextStreamer.on_finalized_text": "self, text, stream_end",
    # Overridden by the canvas' cache
    "transformers.Cache.__init__": "self, layers, ...",
    "transformers.Cache.update": "self, key_states, value_states, layer_idx, *args, **kwargs",
    "transformers.Cache.get_mask_sizes": "self, query_length, layer_idx",
    "transformers.cache_utils.CacheLayerMixin.lazy_initialization": "self, key_states, value_states",
    "transformers.cache_utils.CacheLayerMixin.update": "self, key_states, value_states, *args, **kwargs",
    "transformers.cache_utils.CacheLayerMixin.get_mask_sizes": "self, query_length",
    "transformers.cache_utils.CacheLayerMixin.get_seq_length": "self",
    "transformers.cache_utils.CacheLayerMixin.get_max_length": "self",
    "transformers.cache_utils.CacheLayerMixin.is_compileable": None,
    # Parts of Transformers' models that ours are made of
    "transformers.masking_utils.create_bidirectional_mask": "config, inputs_embeds, attention_mask, "
    "encoder_hidden_states, cache|past_key_values, ...",
    "transformers.modeling_utils.slice_logits_to_keep": "hidden_states, logits_to_keep, ...",
    "transformers.models.llama.modeling_llama.eager_attention_forward": "module, query, key, value, attention_mask, "
    "scaling, dropout, ...",
    "transformers.models.llama.modeling_llama.apply_rotary_pos_emb": "q, k, cos, sin, ...",
    "transformers.models.llama.modeling_llama.LlamaMLP.__init__": "self, config",
    "transformers.models.llama.modeling_llama.LlamaMLP.forward": "self, x",
    "transformers.models.llama.modeling_llama.LlamaRMSNorm.__init__": "self, hidden_size, eps",
    "transformers.models.llama.modeling_llama.LlamaRMSNorm.forward": "self, hidden_states",
    "transformers.utils.output_capturing.OutputRecorder": "target_class, index, ...",
    **{
        f"transformers.models.{family}.modeling_{family}.{name}Model.forward": "self, input_ids, attention_mask, "
        "position_ids, cache|past_key_values, inputs_embeds, use_cache, **kwargs"
        for family, name in (
            ("llama", "Llama"),
            ("qwen2", "Qwen2"),
            ("qwen3", "Qwen3"),
            ("qwen3_moe", "Qwen3Moe"),
            ("glm4_moe", "Glm4Moe"),
        )
    },
    "transformers.conversion_mapping.get_checkpoint_conversion_mapping": "model_type",
    "transformers.core_model_loading.Split.__init__": "self, dim",
    "transformers.conversion_mapping.register_checkpoint_conversion_mapping": "model_type_or_class_name, mapping, "
    "overwrite, ...",
    "transformers.core_model_loading.WeightRenaming": "source_patterns, target_patterns, ...",
    # Overridden by the models
    "transformers.PreTrainedModel._init_weights": "self, module",
    "transformers.PreTrainedModel.get_input_embeddings": "self",
    "transformers.PreTrainedModel.set_input_embeddings": "self, value",
    "transformers.PreTrainedModel.get_output_embeddings": "self",
    "transformers.PreTrainedModel.set_output_embeddings": "self, new_embeddings",
    "transformers.PreTrainedModel.resize_token_embeddings": "self, new_num_tokens, ...",
    "transformers.PreTrainedModel.from_pretrained": "pretrained_model_name_or_path, ...",
    "transformers.PreTrainedModel._can_set_experts_implementation": "",
    "transformers.PreTrainedModel.base_model_prefix": None,
    "transformers.PreTrainedModel.config_class": None,
    "transformers.PreTrainedModel.supports_gradient_checkpointing": None,
    "transformers.PreTrainedModel._can_compile_fullgraph": None,
    "transformers.PreTrainedModel._can_record_outputs": None,
    "transformers.PreTrainedModel._keys_to_ignore_on_load_missing": None,
    "transformers.PreTrainedModel._no_split_modules": None,
    "transformers.PreTrainedModel._skip_keys_device_placement": None,
    "transformers.PreTrainedModel._supports_attention_backend": None,
    "transformers.PreTrainedModel._supports_context_parallel": None,
    "transformers.PreTrainedModel._supports_flash_attn": None,
    "transformers.PreTrainedModel._supports_flex_attn": None,
    "transformers.PreTrainedModel._supports_sdpa": None,
    "transformers.PreTrainedModel._tied_weights_keys": None,
    "transformers.PreTrainedModel._tp_plan": None,
    # Overridden by their configs
    "transformers.PreTrainedConfig.attribute_map": None,
    "transformers.PreTrainedConfig.base_model_tp_plan": None,
    "transformers.PreTrainedConfig.model_type": None,
    "transformers.PreTrainedConfig.to_dict": "self",
    "transformers.PreTrainedConfig.from_dict": "config_dict, **kwargs",
    "transformers.PreTrainedConfig.validate_architecture": "self",
    "transformers.PreTrainedConfig.convert_rope_params_to_dict": "self, **kwargs",
    "transformers.PreTrainedConfig.standardize_rope_params": "self",
    "transformers.PreTrainedConfig.rope_scaling": None,
    # Overridden by LLaDA-MoE's
    "transformers.models.qwen3_moe.modeling_qwen3_moe.Qwen3MoeTopKRouter.forward": "self, hidden_states",
    "transformers.models.qwen3_moe.modeling_qwen3_moe.Qwen3MoeSparseMoeBlock.forward": "self, hidden_states",
    # Code that travels with checkpoints
    "transformers.utils.PushToHubMixin._upload_modified_files": "self, working_dir, repo_id, files_timestamps, ...",
    "transformers.dynamic_module_utils.get_relative_import_files": "module_file, ...",
}

# Checked by `import trainers`.
TRAINERS: Contract = {
    # Overridden
    "transformers.Trainer.train": "self, resume_from_checkpoint, ...",
    "transformers.Trainer.end": "self",
    "transformers.Trainer.save_model": "self, output_dir, _internal_call",
    "transformers.Trainer.evaluation_loop": "self, dataloader, description, ...",
    "transformers.Trainer.get_batch_samples": "self, epoch_iterator, num_batches, device",
    "transformers.Trainer._get_eval_sampler": "self, eval_dataset",
    "transformers.Trainer._get_num_items_in_batch": "self, batch_samples, device",
    "transformers.Trainer._save_checkpoint": "self, model, trial",
    "transformers.Trainer.training_step": "self, model, inputs, num_items_in_batch",
    "transformers.Trainer._load_from_checkpoint": "self, resume_from_checkpoint, model",
    "transformers.Trainer._load_best_model": "self",
    "transformers.Trainer._push_from_checkpoint": "self, checkpoint_folder",
    "transformers.TrainerCallback.on_train_begin": "self, args, state, control, **kwargs",
    "transformers.TrainerCallback.on_step_end": "self, args, state, control, **kwargs",
    "transformers.TrainerCallback.on_evaluate": "self, args, state, control, **kwargs",
    "transformers.TrainerCallback.on_save": "self, args, state, control, **kwargs",
    "transformers.TrainingArguments.logging_nan_inf_filter": None,
    "transformers.TrainingArguments.remove_unused_columns": None,
    "trl.SFTTrainer.compute_loss": "self, model, inputs, return_outputs, num_items_in_batch",
    "trl.SFTTrainer.evaluate": "self, eval_dataset, ignore_keys, metric_key_prefix",
    "trl.SFTTrainer.log": "self, logs, start_time",
    "trl.SFTTrainer.create_model_card": "self, model_name, dataset_name, tags",
    "transformers.Trainer.create_model_card": "self, language, license, tags, model_name, ...",
    "trl.GRPOTrainer.__init__": "self, model, reward_funcs, args, ...",
    "trl.GRPOTrainer._generate_and_score_completions": "self, inputs",
    "trl.GRPOTrainer._compute_loss": "self, model, inputs",
    "trl.GRPOTrainer._get_per_token_logps_and_entropies": "self, model, input_ids, attention_mask, logits_to_keep, "
    "batch_size, compute_entropy, compute_aux_loss, ...",
    "trl.GRPOTrainer.log": "self, logs, start_time",
    "trl.GRPOTrainer.create_model_card": "self, model_name, dataset_name, tags",
    "trl.GRPOTrainer._name": None,
    "trl.GRPOTrainer._paper": None,
    "trl.GRPOConfig._VALID_DICT_FIELDS": None,
    "trl.GRPOConfig.router_aux_loss_coef": None,
    "trl.SFTTrainer.loss_is_scaled_for_ga": None,
    "trl.SFTTrainer._name": None,
    "trl.SFTTrainer._paper": None,
    "trl.SFTTrainer._tag_names": None,
    "trl.SFTConfig._VALID_DICT_FIELDS": None,
    "trl.SFTConfig.router_aux_loss_coef": None,
    # Called
    "transformers.Trainer.get_tp_size": "self",
    "trl.GRPOTrainer._tokenize_prompts": "self, prompts",
    "trl.models.unwrap_model_for_generation": "model, accelerator, gather_deepspeed3_params, ...",
    "transformers.Trainer._get_output_dir": "self, trial",
    "trl.trainer.utils.create_model_from_path": "model_id, ...",
    "trl.chat_template_utils.has_generation_markers": "chat_template, ...",
    "trl.chat_template_utils.is_chat_template_stop_token_trained": "processing_class, chat_template, ...",
    "peft.PeftModel.active_peft_config": None,
    "peft.PeftModel.get_base_model": "self",
}


def check_contract(contract: Contract) -> None:
    """Compare rows with what is installed.

    Raises:
        ImportError: a hook that is gone, or that takes other parameters; the sentence names it and the version.
    """
    for path, parameters in contract.items():
        package = path.partition(".")[0]
        way_out = f"conv-dlm relies on it: install an older {package}, or a newer conv-dlm."
        try:
            hook = find(path)
        except (AttributeError, ImportError) as error:
            raise ImportError(f"{package} {version(package)} has no `{path}`. {way_out}") from error
        if parameters is not None and not agrees(parameters, found := parameters_of(hook)):
            raise ImportError(
                f"{package} {version(package)} has changed `{path}` from ({parameters}) to ({found}). {way_out}"
            )


def find(path: str) -> Any:
    """What a dotted path names, in a module or in a class of one."""
    names = path.split(".")
    for count in range(len(names), 0, -1):
        try:
            found: Any = import_module(".".join(names[:count]))
        except ModuleNotFoundError:
            continue
        for name in names[count:]:
            found = getattr(found, name)
        return found
    raise ImportError(f"no module in {path}")


def parameters_of(hook: Any) -> str:
    """Names of parameters as a row spells them; `=` after those that may be left out."""
    spelled = []
    for parameter in inspect.signature(hook).parameters.values():
        several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        name = str(parameter.replace(annotation=parameter.empty)) if several else parameter.name
        spelled.append(name if parameter.default is parameter.empty else f"{name}=")
    return ", ".join(spelled)


def agrees(expected: str, found: str) -> bool:
    """Whether a row's parameters are those `found` in a hook."""
    wanted, given = expected.split(", "), found.split(", ")
    further: list[str] = []
    if wanted[-1] == "...":
        wanted.pop()
        given, further = given[: len(wanted)], given[len(wanted) :]
    return (
        len(wanted) == len(given)
        and all(name.rstrip("=") in names.split("|") for names, name in zip(wanted, given, strict=True))
        and all(name.startswith("*") or name.endswith("=") for name in further)
    )
