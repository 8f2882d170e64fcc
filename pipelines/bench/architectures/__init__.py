"""Real architectures from their published configurations, with random weights: no hub needed."""
