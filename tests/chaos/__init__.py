"""Chaos: concurrent writers, random faults, and in the end both databases must be equal."""
