"""Why the demo cannot run."""


class DemoError(Exception):
    """A missing or damaged data set, or a picture that cannot be written; the message says what to do."""
