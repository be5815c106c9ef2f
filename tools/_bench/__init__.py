"""What `tools/bench` runs: see `__main__`."""
