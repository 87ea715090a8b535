"""What is said of errors that others raise."""


def describe(error: Exception) -> str:
    """Say in one line, of 300 characters at most, what an error is."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
