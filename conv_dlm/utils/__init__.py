"""Files and the circumstances of a run: what every room may use, and which uses none."""
