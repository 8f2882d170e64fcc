"""The invariants as rules: each reads the evidence and yields what breaks it."""
