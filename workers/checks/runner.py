"""Run groups of checks side by side, and end in time whatever they wait for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Thread
from time import monotonic
from typing import Final

from workers.checks.results import Result, State, red

LIMIT_S: Final = 60.0  # every call of a check is bounded by seconds; this is for all of them together
_POLL_S: Final = 0.1


@dataclass
class Group:
    """Checks of one thing, in their order; `results` grows while they run."""

    name: str
    checks: Callable[[], Iterable[Result]]
    results: list[Result] = field(default_factory=list)
    seconds: float | None = None
    error: Exception | None = None

    @property
    def worst(self) -> State:
        """The state that speaks for the group."""
        states = {result.state for result in self.results}
        return next((state for state in (State.RED, State.AMBER, State.GREEN) if state in states), State.SKIPPED)

    def run(self) -> None:
        """Collect the results; a fault of a check is one of them."""
        started = monotonic()
        try:
            for result in self.checks():
                self.results.append(result)
        except Exception as error:
            self.error = error
            self.results.append(red("check", f"ended by a {type(error).__name__}", "see archiver --debug check"))
        self.seconds = monotonic() - started


def run(groups: list[Group], on_change: Callable[[], None], limit_s: float = LIMIT_S) -> None:
    """Run every group in a thread of its own, and call `on_change` every now and then.

    A group that has not ended after `limit_s` gets a red result and is left to end with the process.
    """
    deadline = monotonic() + limit_s
    threads = [Thread(target=group.run, name=f"check-{group.name}", daemon=True) for group in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and monotonic() < deadline:
            thread.join(_POLL_S)
            on_change()
    for group in groups:
        if group.seconds is None:
            late = red("check", f"no end within {limit_s:g} s", "look at the network and name look-ups of this machine")
            group.results = [*group.results, late]
    on_change()
