"""Load a model, prompt it, answer: what the command line, the server, the page and evaluation share."""
