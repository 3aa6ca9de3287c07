"""The console of the commands. Text that is shown may come from anywhere: there is no markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from lmp_dp.text import printable


class Terminal(Console):
    """Rich's console with text taken as it is; colours and tables are objects of rich."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Called while BrokenPipeError is handled; rich would exit with 1, a failed check."""
        raise

    def say(self, text: str) -> None:
        """Print a line."""
        self.print(printable(text))

    @contextmanager
    def working(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show what is being done; the function that is given changes the text."""
        with self.status(Text(printable(text))) as status:
            yield lambda text: status.update(Text(printable(text)))
