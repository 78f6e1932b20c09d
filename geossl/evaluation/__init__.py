"""What embeddings are worth: probes, representation health, intervals. Knows nothing of training."""
