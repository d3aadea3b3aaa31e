"""What a shell sees of how a command ended, where that was not well (0)."""

MISTAKE = 2  # in what was asked for, as argparse has it
INTERRUPTED = 130  # what shells report for a program that Ctrl-C ended
PIPE_CLOSED = 141  # likewise for one whose reader went away
