import sys

from trainers.grpo import run

if __name__ == "__main__":
    sys.exit(run())
