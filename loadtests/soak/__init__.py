"""Hours of even load, and whether any process grows meanwhile: see docs/reliability.md."""
