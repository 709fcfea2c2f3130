"""The demo."""


def demo() -> None:
    """One machine, no network."""
