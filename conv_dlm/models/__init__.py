"""Masked diffusion LMs as native Transformers models; importing this room registers them with the Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from conv_dlm.models import compact as compact  # registers its way of storing weights
from conv_dlm.models.llada.configuration_llada import LLaDAConfig
from conv_dlm.models.llada.modeling_llada import LLaDAModelLM
from conv_dlm.models.mdlm.configuration_mdlm import MDLMConfig
from conv_dlm.models.mdlm.modeling_mdlm import MDLM

__all__ = ["MDLM", "LLaDAConfig", "LLaDAModelLM", "MDLMConfig"]

for _config, _model in ((LLaDAConfig, LLaDAModelLM), (MDLMConfig, MDLM)):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    # Existing scripts load LLaDA with `AutoModel` and expect logits: every door leads to the LM.
    for _auto in (AutoModel, AutoModelForMaskedLM, AutoModelForCausalLM):
        _auto.register(_config, _model, exist_ok=True)
