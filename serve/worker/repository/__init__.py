"""Queries of workers, reapers and sweepers alone."""
