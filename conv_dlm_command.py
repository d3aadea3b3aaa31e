"""`conv-dlm`, from its first moment: Ctrl-C while PyTorch is imported, which takes seconds, is no error either."""

import sys

INTERRUPTED = 130  # as conv_dlm.utils.exit_codes, which can't be imported without all the rest


def main() -> int:
    """Run the command line; returns its exit status."""
    try:
        from conv_dlm.cli import main as run
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return run()
