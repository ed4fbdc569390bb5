"""The training loop and its state: trainer, optimizer, parallelism, validation."""
