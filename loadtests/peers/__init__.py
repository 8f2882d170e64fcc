"""Other ways to serve the same model, and `python -m loadtests.peers`, which compares them."""
