"""What a long call tells whoever watches it."""

from typing import Protocol


class Progress(Protocol):
    """Called now and then, always from the thread that made the call."""

    def __call__(self, step: str, done_count: int, total_count: int, sentence: str = "", /) -> None:
        """*step* has done *done_count* of *total_count* VMs; *sentence* tells what just ended, if anything."""
