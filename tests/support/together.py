"""Threads that start together."""

import threading


def run(*targets, timeout=60):
    """Run all targets at the same time, each in a thread. Raise the first exception."""
    failures = []
    barrier = threading.Barrier(len(targets))

    def guarded(target):
        barrier.wait()
        try:
            target()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
        assert not thread.is_alive()
    if failures:
        raise failures[0]
