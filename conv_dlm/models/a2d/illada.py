"""iLLaDA: Llama without the causal mask, by names of its own. Its published config was not at hand, so it has to tell.

Known are: full attention, logits for the same position, Llama's names of tensors, mask id 5, tied embeddings. What a
config doesn't tell beside these is not guessed.
"""

from typing import Any

from transformers.utils import logging

from conv_dlm.models.a2d.modeling_a2d import A2DLlamaConfig
from conv_dlm.models.llada.configuration_llada import LLaDAConfig

logger = logging.get_logger(__name__)
ARCHITECTURE = "ILLaDAForCausalLM"  # how its files name it; of which model type is not known
NEEDED = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "hidden_act", "rms_norm_eps", "max_position_embeddings",
)  # fmt: skip
KNOWN = {"mask_token_id": 5, "tie_word_embeddings": True}  # which Transformers 4 leaves out of files where it is so
_OF_FILES = ("model_type", "architectures", "auto_map")  # which name other classes


class ILLaDAConfig(A2DLlamaConfig):
    """Reads an iLLaDA's config; what comes of it is an [`A2DLlamaConfig`]."""

    model_type = "illada"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As Transformers does it.

        Raises:
            `ValueError`: the config doesn't tell the whole architecture; names the keys that are missing, and those
                that a Llama doesn't have.
        """
        said = {key for key, value in (config_dict | kwargs).items() if value is not None}
        missing = [key for key in NEEDED if key not in said]
        rope = config_dict.get("rope_parameters") or {}
        if "rope_theta" not in said and "rope_theta" not in rope:
            missing.append("rope_theta")
        # what changes a computation is neither off nor empty
        left_over = sorted(key for key, value in config_dict.items() if value and key not in _read())
        if missing:
            raise ValueError(
                f"This iLLaDA can't be loaded, for its config doesn't tell the architecture: {', '.join(missing)} "
                f"missing, {', '.join(left_over) or 'nothing'} left over. Pass what is missing to `from_pretrained`, "
                "or load it with its own code and call `conv_dlm.enable_diffusion(model, mask_token_id=5)`."
            )
        if left_over:
            logger.warning(f"iLLaDA is loaded as a Llama without a causal mask, which has no {', '.join(left_over)}.")
        told = {key: value for key, value in config_dict.items() if value is not None and key not in _OF_FILES}
        return A2DLlamaConfig.from_dict(KNOWN | told, **kwargs)


def _read() -> set[str]:
    """Keys that a Llama has, or that any file has."""
    files = {*_OF_FILES, "transformers_version", "torch_dtype", "rope_parameters", "_name_or_path"}
    return {*A2DLlamaConfig().to_dict(), *files}


LLaDAConfig.other_layouts[ARCHITECTURE] = ILLaDAConfig
