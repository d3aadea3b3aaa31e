"""What a rank finds in its environment: started by `accelerate launch`, or as a fork by tests/ranks.py."""

import json
import os
import sys
from pathlib import Path


def tell(folder: Path) -> None:
    """Write the variables that a launcher sets into a file with the number of the rank."""
    own = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    told = {name: value for name, value in os.environ.items() if name in own or name.startswith("ACCELERATE_")}
    (folder / os.environ["RANK"]).write_text(json.dumps(told))


if __name__ == "__main__":
    tell(Path(sys.argv[1]))
