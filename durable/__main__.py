"""``python -m durable``: the command line."""

from durable.cli import main

if __name__ == "__main__":
    main()
