"""The limit of the framework and its server: a view that does nothing."""

from flask import Flask

app = Flask("empty_view")


@app.post("/recording-status")
def recording_status() -> tuple[str, int]:
    """Do nothing."""
    return "", 204
