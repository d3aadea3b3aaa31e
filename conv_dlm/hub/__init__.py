"""What goes to the Hub: staged as it will lie there, checked, uploaded."""

from conv_dlm.hub.push import push
from conv_dlm.hub.staging import Kind, Staged, stage

__all__ = ["Kind", "Staged", "push", "stage"]
