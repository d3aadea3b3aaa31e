"""What all trainers of denoisers share, whatever trainer of TRL they extend."""

import math
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from conv_dlm.answering.ends import end_ids
from trainers.checkpoints import WholeCheckpoints
from trainers.model_card import ModelCards


class DenoiserTrainer(WholeCheckpoints, ModelCards):
    """Base of the trainers of masked diffusion LMs: whole checkpoints, model cards, the mask, and a clean end."""

    _tag_names = ["trl", "conv-dlm", "masked-diffusion"]

    model: PreTrainedModel | PeftModel
    mask_token_id: int
    _tokenizer: PreTrainedTokenizerBase  # set by TRL's trainers

    @property
    def bare_model(self) -> Any:
        """The model without adapters around it."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    def _find_mask_token(self) -> None:
        """Set `mask_token_id`: the tokenizer's, or else the model's."""
        mask = self._tokenizer.mask_token_id
        if mask is None:
            mask = getattr(self.model.config, "mask_token_id", None)
        elif (other := getattr(self.model.config, "mask_token_id", None)) not in (None, mask):
            raise ValueError(
                f"The tokenizer's mask token has the id {mask}, the model's {other}: set `model.config.mask_token_id`, "
                "or `tokenizer.mask_token`, so that both are the one that the model was trained with."
            )
        if mask is None:
            raise ValueError("Neither tokenizer nor model names a mask token: set `model.config.mask_token_id`.")
        self.mask_token_id = int(mask)

    def _say_ends(self) -> None:
        """What ends an answer goes into the generation config that is saved: the model learns all of it."""
        config: Any = getattr(self.bare_model, "generation_config", None)
        if config is not None:
            ends = end_ids(self._tokenizer, config)
            config.eos_token_id = ends[0] if len(ends) == 1 else ends

    def check_logged(self, logs: dict[str, float]) -> None:
        """End the run if a loss is not finite: it never recovers, and averages hide it."""
        for key in ("loss", "grad_norm", "eval_loss", "eval_nelbo"):
            if not math.isfinite(logs.get(key, 0.0)):
                raise FloatingPointError(self.diverged(f"`{key}` is {logs[key]} at step {self.state.global_step}"))

    def end(self) -> None:
        """Finish the trackers and destroy the process group; see [`~transformers.Trainer.end`].

        DDP's wrapper of the model is given up before.
        """
        # The last holder of a gloo group joins its threads, while one of them may wait for the GIL, to let
        # go of a collective's tensors. Python's reference gives up the GIL for that, DDP's reducer does not (PyTorch
        # 2.13): where it outlived `destroy_process_group`, now and then a process hung for ever as the trainer went.
        if not self.is_deepspeed_enabled:  # whose engine has no reducer
            self.model_wrapped = self.model
            self.accelerator.free_memory()
        super().end()
