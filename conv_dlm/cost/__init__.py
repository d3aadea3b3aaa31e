"""What generation and training cost: memory, measured time, the floor of a device, plain loops to compare with."""
