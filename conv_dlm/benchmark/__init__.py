"""How fast generation is, how fast this device could do its forwards, and plain loops to compare with."""
