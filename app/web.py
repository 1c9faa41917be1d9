"""What `python -m app.web` runs: gunicorn, with a start that no value of WEB_CONCURRENCY can break."""

import os


def main() -> None:
    """Run gunicorn with the arguments of this command line.

    gunicorn turns WEB_CONCURRENCY into a number while it is imported, and ends with a traceback that shows what is
    none, an empty one included. The settings judge it, with all others, when gunicorn loads its configuration.
    """
    given = os.environ.pop("WEB_CONCURRENCY", None)
    from gunicorn.app.wsgiapp import run

    if given is not None:
        os.environ["WEB_CONCURRENCY"] = given
    run()


if __name__ == "__main__":
    main()
