"""What ``tools/prove`` is made of; see docs/reliability.md."""
