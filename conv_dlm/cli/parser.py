"""Command line parsing that teaches: examples in the help, mistakes told in one line."""

import argparse
from typing import Any, NoReturn

from conv_dlm.utils.exit_codes import MISTAKE


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviations, whose texts are printed as they are laid out."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown arguments here, where the command that does not know them is known."""
        for word in args or ():
            if word.startswith("--") and word.endswith("=--"):  # argparse would take it for no value at all
                self.error(f"argument {word[:-3]}: expected a value")
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        hint = f" (see {self.prog} --help)" if self.add_help else ""
        self.exit(MISTAKE, f"{self.prog}: error: {message}{hint}\n")
