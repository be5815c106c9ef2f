"""Many threads at once, and who of them is inside; for the tests of limits and rates."""

import threading

LONG = 60  # seconds that a test which must not hang waits


class Crowd:
    """Counts who is inside at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.inside = self.most = self.passed = 0

    def __enter__(self):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            self.passed += 1


def limits_left(journal):
    """The files of limits and rates that are beside a journal."""
    return sorted(path.name for path in journal.parent.glob("runs.db-limits/*"))


def in_threads(*bodies):
    threads = [threading.Thread(target=body, daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive(), "it hangs"
