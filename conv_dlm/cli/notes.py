"""What a command says beside its results: on standard error, dimmed on a terminal."""

import sys


def note(text: str) -> None:
    """Print `text` for the person who watches."""
    from conv_dlm.generation.terminal import is_terminal, wants_style

    dim = is_terminal(sys.stderr) and wants_style()
    print(f"\x1b[2m{text}\x1b[0m" if dim else text, file=sys.stderr, flush=True)
