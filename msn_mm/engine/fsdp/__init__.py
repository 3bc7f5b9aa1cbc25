"""Training whose weights, gradients and optimizer state lie in shards over all processes."""
