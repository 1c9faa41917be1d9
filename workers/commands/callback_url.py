"""`archiver callback-url`: what to give Twilio as RecordingStatusCallback."""

import click

from app.settings import PublicSettings, load
from workers.cli import say

PATH = "/recording-status"


@click.command("callback-url")
@click.option("--plain", is_flag=True, help="Without the fragment that makes Twilio repeat unanswered callbacks.")
def callback_url(plain: bool) -> None:
    """Print the URL to give Twilio as RecordingStatusCallback.

    The fragment #rc=5&rp=all makes Twilio repeat a callback that was not answered with success; it is neither sent
    nor signed (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides).
    """
    settings = load(PublicSettings)
    url = callback_of(settings)
    click.echo(url.partition("#")[0] if plain else url)
    if settings.WEBHOOK_USERNAME is not None:
        say("Twilio needs the credentials in it: https://WEBHOOK_USERNAME:WEBHOOK_PASSWORD@…")


def callback_of(settings: PublicSettings) -> str:
    """Return the URL under which Twilio reaches the callback endpoint, without credentials."""
    return f"{settings.PUBLIC_URL}{PATH}#rc=5&rp=all"
