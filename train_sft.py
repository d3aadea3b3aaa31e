import sys

from trainers.sft import run

if __name__ == "__main__":
    sys.exit(run())
