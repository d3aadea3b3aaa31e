"""Masked diffusion LMs as native Transformers models; importing this room registers them with the Auto classes."""

import transformers

from conv_dlm.models.a2d.illada import ILLaDAConfig
from conv_dlm.models.a2d.modeling_a2d import A2DLlamaLMHeadModel, A2DQwen2LMHeadModel, A2DQwen3LMHeadModel
from conv_dlm.models.dream.modeling_dream import DreamModel
from conv_dlm.models.fast_dllm_v2.modeling_fast_dllm_v2 import Fast_dLLM_QwenForCausalLM
from conv_dlm.models.llada.configuration_llada import LLaDAConfig
from conv_dlm.models.llada.modeling_llada import LLaDAModelLM
from conv_dlm.models.llada2.modeling_llada2 import LLaDA2MoeModelLM
from conv_dlm.models.llada_moe.modeling_llada_moe import LLaDAMoEModelLM
from conv_dlm.models.mdlm.configuration_mdlm import MDLMConfig
from conv_dlm.models.mdlm.modeling_mdlm import MDLM
from conv_dlm.models.sdar.modeling_sdar import SDARForCausalLM, SDARMoeForCausalLM
from conv_dlm.models.self_contained import AUTO_CLASSES

MODELS = (
    LLaDAModelLM,
    MDLM,
    DreamModel,
    A2DQwen3LMHeadModel,
    A2DQwen2LMHeadModel,
    A2DLlamaLMHeadModel,
    SDARForCausalLM,
    SDARMoeForCausalLM,
    Fast_dLLM_QwenForCausalLM,
    LLaDAMoEModelLM,
    LLaDA2MoeModelLM,
)

__all__ = [
    "MDLM",
    "MODELS",
    "A2DLlamaLMHeadModel",
    "A2DQwen2LMHeadModel",
    "A2DQwen3LMHeadModel",
    "DreamModel",
    "Fast_dLLM_QwenForCausalLM",
    "LLaDA2MoeModelLM",
    "LLaDAConfig",
    "LLaDAMoEModelLM",
    "LLaDAModelLM",
    "MDLMConfig",
    "SDARForCausalLM",
    "SDARMoeForCausalLM",
]

for _model in MODELS:
    _config = _model.config_class
    transformers.AutoConfig.register(_config.model_type, _config, exist_ok=True)
    # Existing scripts load LLaDA with `AutoModel` and expect logits: every door leads to the LM.
    for _auto in AUTO_CLASSES:
        getattr(transformers, _auto).register(_config, _model, exist_ok=True)

transformers.AutoConfig.register(ILLaDAConfig.model_type, ILLaDAConfig, exist_ok=True)
