"""The data of a training run: examples, batches, streams and cached image embeddings."""
