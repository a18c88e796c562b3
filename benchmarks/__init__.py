"""How fast synchro is on this machine: ``python -m benchmarks``, described in README.md beside this file."""
