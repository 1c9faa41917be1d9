"""Check the settings of every process, as each of them would read them."""

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel

from app.settings import BeatSettings, SettingsError, WebSettings, WorkerSettings, load, misspelled
from workers.checks.results import Result, amber, green, red

PROCESSES: Final[Mapping[str, type[BaseModel]]] = {
    "web": WebSettings,
    "worker": WorkerSettings,
    "beat": BeatSettings,
}


def check_settings() -> Iterator[Result]:
    """Read every process's settings; each mistake is one result, with the processes that can't start."""
    mistakes: dict[str, list[str]] = {}
    for process, cls in PROCESSES.items():
        try:
            load(cls)
        except SettingsError as error:
            for mistake in error.mistakes:
                mistakes.setdefault(mistake, []).append(process)
        else:
            yield green(process, "complete and well-formed")
    for mistake, processes in mistakes.items():
        name, _, text = mistake.partition(": ")
        found, _, mend = text.partition("; ")
        stopped = f"stops {', '.join(processes)}"
        yield red(name, f"{found}; {stopped}" if mend else f"can't be used; {stopped}", mend or text)
    for name, meant in misspelled().items():
        yield amber(name, "is no setting and is ignored", f"if {meant} is meant, rename it")
