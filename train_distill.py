import sys

from trainers.distill import run

if __name__ == "__main__":
    sys.exit(run())
