"""Tells lm-evaluation-harness of its model `conv_dlm` when it is imported.

lm-eval 0.4.13 has a fixed list of models. Later releases ask the entry points of installed packages, where ours is
too; when they are all that is supported, this file can go. An installation has it not here but beside the package, as
`_conv_dlm_lm_eval.py`, with a `.pth` by which Python imports it at its start. So it must neither fail nor take time:
it imports nothing before lm-eval is imported, and does nothing if that never happens.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # without importing `typing`
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

NAME, TARGET = "conv_dlm", "conv_dlm.evaluation.harness:ConvDLM"
LIST_OF_MODELS = "lm_eval.models"  # the module that fills it


def announce() -> None:
    """Put the model on lm-eval's list, by name: nothing is imported before somebody asks for it."""
    try:
        from lm_eval.api.registry import model_registry

        if NAME not in model_registry:
            model_registry.register(NAME, target=TARGET)
    except Exception as error:  # lm-eval must work whatever has become of its list
        import warnings

        warnings.warn(
            f"lm_eval doesn't take the model {NAME!r}: {error!r}. conv-dlm[eval] says which releases of it do.",
            stacklevel=2,
        )


class Watcher:
    """A finder of modules that finds none by itself, but looks which are wanted."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != LIST_OF_MODELS:
            return None
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_announce(module: ModuleType) -> None:
                execute(module)
                announce()

            spec.loader.exec_module = execute_and_announce  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Watcher())
