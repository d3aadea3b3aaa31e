"""Files, and the environment of a run: any module may use these; they use none of the others."""
