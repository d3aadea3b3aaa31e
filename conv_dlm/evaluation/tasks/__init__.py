"""What `conv-dlm eval` can ask a model. A task is a module with `load`, which reads its rows."""
