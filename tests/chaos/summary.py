"""What a run has come to, in a few lines."""

from collections import Counter
from collections.abc import Iterator

from tests.chaos.soak import Outcome

_RULES = {
    "lost": ("lost", "missing", "nowhere", "no_receipt"),
    "early deletes": (
        "early_delete",
        "unannounced_delete",
        "unchecked_delete",
        "delete_while_paused",
        "foreign_delete",
    ),
    "duplicate objects": ("duplicate", "overwritten", "removed", "foreign_object"),
    "stray multipart uploads": ("stray_upload",),
}
_DONE = {
    "worker_killed": "workers killed",
    "redis_restarted": "Redis restarts",
    "redis_flushed": "Redis flushes",
    "s3_unreachable": "outages of S3",
    "twilio_refuses": "times that Twilio refused all credentials",
    "restarted": "processes restarted with SIGTERM",
    "deletions_resumed": "times that an operator resumed deletions",
}
_MOST_SHOWN = 40


def summary(outcome: Outcome) -> str:
    """Return the summary of a run, which ends with where everything is kept."""
    return "\n".join([*_lines(outcome), ""])


def _lines(outcome: Outcome) -> Iterator[str]:
    verdict = outcome.verdict
    yield f"{outcome.storm_s:,.0f} s of storm, {outcome.quiet_s:,.0f} s until all was done; seed {outcome.plan.seed}"
    for side, name in (("twilio", "Twilio"), ("s3", "S3")):
        asked, failed = outcome.asked[side], outcome.failed[side]
        yield f"{failed:,} of {asked:,} calls to {name} in the storm failed on purpose ({failed / max(1, asked):.1%})"
    yield ", ".join(f"{outcome.done[event]} {name}" for event, name in _DONE.items())
    yield ""
    for name, number in verdict.counts.items():
        yield f"{name:28} {number:>8,}"
    rules = Counter(finding.rule for finding in verdict.findings)
    for name, grouped in _RULES.items():
        yield f"{name:28} {sum(rules.pop(rule, 0) for rule in grouped):>8,}"
    yield f"{'secrets in logs':28} {len(outcome.leaks):>8,}"
    yield f"{'other breaches':28} {sum(rules.values()):>8,}"
    yield f"{'archiver audit, exit code':28} {outcome.audit:>8}"
    for said in [*map(str, verdict.findings), *outcome.leaks][:_MOST_SHOWN]:
        yield f"  {said}"
    yield ""
    yield f"timeline, evidence and logs: {outcome.plan.directory}"
