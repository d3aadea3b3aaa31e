"""Denoising for a model that knows nothing of it: `model.generate(custom_generate="a repository", ...)`."""

from typing import Any

from conv_dlm.generation.enable import enable_diffusion


def generate(model: Any, mask_token_id: int | None = None, shift_logits: bool = False, **arguments: Any) -> Any:
    """`generate` by denoising, of a masked diffusion model whose own code lacks it; the model stays as it was.

    Args:
        model (`PreTrainedModel`): maps ids to logits with bidirectional attention.
        mask_token_id, shift_logits: as for [`~conv_dlm.enable_diffusion`].
        arguments: as for `generate` of a native model: `decode_type`, `steps`, `max_new_tokens`, ...

    Raises:
        ValueError: as `enable_diffusion` and `generate`.
    """
    before = vars(model).copy()
    its_class = type(model)
    try:
        return enable_diffusion(model, mask_token_id, shift_logits).generate(**arguments)
    finally:
        model.__class__ = its_class
        for name in vars(model).keys() - before.keys():
            del vars(model)[name]
        vars(model).update(before)
