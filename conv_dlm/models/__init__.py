"""Masked diffusion LMs as native Transformers models; importing this room registers them with the Auto classes."""

import transformers

from conv_dlm.models.llada.configuration_llada import LLaDAConfig
from conv_dlm.models.llada.modeling_llada import LLaDAModelLM
from conv_dlm.models.mdlm.configuration_mdlm import MDLMConfig
from conv_dlm.models.mdlm.modeling_mdlm import MDLM
from conv_dlm.models.self_contained import AUTO_CLASSES

__all__ = ["MDLM", "LLaDAConfig", "LLaDAModelLM", "MDLMConfig"]

for _config, _model in ((LLaDAConfig, LLaDAModelLM), (MDLMConfig, MDLM)):
    transformers.AutoConfig.register(_config.model_type, _config, exist_ok=True)
    # Existing scripts load LLaDA with `AutoModel` and expect logits: every door leads to the LM.
    for _auto in AUTO_CLASSES:
        getattr(transformers, _auto).register(_config, _model, exist_ok=True)
