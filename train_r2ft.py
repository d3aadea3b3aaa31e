import sys

from trainers.r2ft import run

if __name__ == "__main__":
    sys.exit(run())
