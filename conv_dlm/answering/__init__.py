"""Load a model, prompt it and generate answers: shared by the command line, the server, the page and evaluation."""
