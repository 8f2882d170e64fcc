"""Faults under load, and an offline check that nothing was lost: see docs/reliability.md."""
