"""The policies of deploy/iam: each process is allowed what it does, and nothing that would undo what is archived."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.deploy.policies import IAM, Policy, Request, is_allowed, read_policy
from tests.deploy.s3_actions import KEY, needed
from tests.deploy.split import ROLES, Split

pytestmark = pytest.mark.timeout(300)  # the first test waits for a whole run of the product


def policies(name: str, bucket: str, prefix: str = "") -> list[Policy]:
    """Return a role's policy and the bucket's."""
    values = {"BUCKET": bucket, "PREFIX": prefix, "KEY_ARN": KEY, "REGION": "eu-central-1"}
    return [read_policy(each, **values) for each in (name, "bucket")]


# As IAM takes them

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html; white space does not count.
MANAGED_CHARS = 6_144  # a role's own policies may have more
USERS_OWN_CHARS = 2_048


@pytest.mark.parametrize("name", [*dict.fromkeys(ROLES.values()), "single"])
def test_a_policy_is_not_too_long(name: str) -> None:
    """IAM takes each one as a managed policy, and the template's as a role's own, also for a bucket of a long name."""
    policy = read_policy(name, BUCKET="b" * 63, PREFIX="p" * 40 + "/", KEY_ARN=KEY, REGION="ap-southeast-2")
    assert len(json.dumps(policy, separators=(",", ":"))) <= MANAGED_CHARS


def test_the_page_gives_no_user_a_policy_of_its_own() -> None:
    """IAM would refuse it: the policy of one process that does everything is too long for that."""
    policy = read_policy("single", BUCKET="recordings", PREFIX="", KEY_ARN=KEY, REGION="eu-central-1")
    assert len(json.dumps(policy, separators=(",", ":"))) > USERS_OWN_CHARS
    page = (IAM / "README.md").read_text()
    assert "put-user-policy" not in page
    assert "attach-user-policy" in page


# What each process does


@pytest.mark.parametrize(("process", "role"), [*ROLES.items(), *((process, "single") for process in ROLES)])
def test_what_a_process_does_is_allowed(split: Split, process: str, role: str) -> None:
    """Every request that a process made of S3 is allowed by its role and by the bucket, and to whoever does it all."""
    of_its_role = policies(role, split.stack.bucket)
    asked = {request for event in split.asked(process) for request in needed(event, split.stack.bucket)}
    # The stand-in has no Object Lock for uploads in parts, so the run was without: what is locked where there is one.
    asked |= {replace(each, action="s3:PutObjectRetention", context={}) for each in asked if _is_locked(each)}
    refused = [request for request in asked if not is_allowed(request, of_its_role) and not _is_a_probe(request)]
    assert len(asked) > 20
    assert not refused


def _is_locked(request: Request) -> bool:
    collection = request.resource.partition("/")[2].partition("/")[0]
    return request.action == "s3:PutObject" and collection in ("recordings", "receipts", "deletions", "absences")


def _is_a_probe(request: Request) -> bool:
    """Tell what `archiver check` asks for in order to see that it is refused, or to clean up where it may."""
    return request.action in ("s3:BypassGovernanceRetention", "s3:DeleteObjectVersion")


# What nobody may do

BUCKET = "recordings-of-acme"
ARN = f"arn:aws:s3:::{BUCKET}"
PROVEN = ("recordings", "receipts", "deletions", "absences", "index", "transcriptions")
TLS = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}
ONCE = {"s3:if-none-match": "*", "s3:ObjectCreationOperation": "true"}
ANY = {"s3:ObjectCreationOperation": "true"}
PART = {"s3:ObjectCreationOperation": "false"}
NAMES = [*dict.fromkeys(ROLES.values()), "single"]


def may(role: str, action: str, key: str | None, context: Mapping[str, str] = TLS) -> bool:
    """Tell whether a role may do something with an object, or with the bucket itself."""
    target = ARN if key is None else f"{ARN}/calls/{key}"
    return is_allowed(Request(action, target, TLS | context), policies(role, BUCKET, "calls/"))


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("collection", PROVEN)
def test_nobody_destroys_or_overwrites_what_is_proven(role: str, collection: str) -> None:
    """No role deletes a proof or its versions, writes over one, or gets round its retention."""
    key = f"{collection}/account=AC0/RE0"
    for action in ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"):
        assert not may(role, action, key), action
    assert not may(role, "s3:PutObject", key, ANY)
    assert not may(role, "s3:PutObject", key, ANY | {"s3:if-match": "etag"}) or collection == "transcriptions"


@pytest.mark.parametrize("role", NAMES)
def test_nobody_changes_the_bucket(role: str) -> None:
    """No role touches the bucket's policy, versioning, lifecycle, lock or encryption, nor an object's access."""
    for action in (
        "s3:DeleteBucket",
        "s3:DeleteBucketPolicy",
        "s3:PutBucketObjectLockConfiguration",
        "s3:PutBucketPolicy",
        "s3:PutBucketPublicAccessBlock",
        "s3:PutBucketVersioning",
        "s3:PutEncryptionConfiguration",
        "s3:PutLifecycleConfiguration",
        "s3:PutReplicationConfiguration",
    ):
        assert not may(role, action, None), action
    for action in ("s3:PutObjectAcl", "s3:PutObjectTagging", "s3:RestoreObject"):
        assert not may(role, action, "recordings/account=AC0/RE0"), action


@pytest.mark.parametrize("role", NAMES)
def test_nobody_speaks_without_tls(role: str) -> None:
    """What is allowed over TLS is refused without it, and over TLS 1.1."""
    for weak in ({"aws:SecureTransport": "false"}, {"s3:TlsVersion": "1.1"}):
        assert may(role, "s3:GetObject", "receipts/account=AC0/RE0")
        assert not may(role, "s3:GetObject", "receipts/account=AC0/RE0", weak)


@pytest.mark.parametrize(
    ("role", "writes"),
    [
        ("worker", {"recordings", "receipts", "absences", "index", "quarantine", "reports"}),
        ("deleter", {"deletions", "transcriptions", "quarantine"}),
        ("operator", {"recordings", "receipts", "absences", "index", "quarantine", "reports", "control"}),
        ("single", {*PROVEN, "quarantine", "reports", "control"}),
    ],
)
def test_each_role_writes_what_is_its_work(role: str, writes: set[str]) -> None:
    """Who archives can prove no deletion, and who deletes can make neither media nor receipt."""
    collections = {*PROVEN, "quarantine", "reports", "control", "elsewhere"}
    assert {each for each in collections if may(role, "s3:PutObject", f"{each}/account=AC0/RE0", ONCE)} == writes


@pytest.mark.parametrize("role", ["worker", "deleter"])
def test_only_an_operator_holds_and_releases(role: str) -> None:
    """Neither worker nor deleter sets or lifts a legal hold, or the stop switch once it is there."""
    assert not may(role, "s3:PutObjectLegalHold", "recordings/account=AC0/RE0")
    assert not may(role, "s3:DeleteObject", "control/deletions-paused.json")
    assert may("operator", "s3:PutObjectLegalHold", "recordings/account=AC0/RE0")
    assert may("operator", "s3:DeleteObject", "control/deletions-paused.json")


def test_the_deleter_may_stop_all_deletions() -> None:
    """Whoever deletes may set the stop switch, and no other switch."""
    assert may("deleter", "s3:PutObject", "control/deletions-paused.json", ONCE)
    assert not may("deleter", "s3:PutObject", "control/holds/account=AC0/RE0.json", ONCE)


@pytest.mark.parametrize("role", ["worker", "single"])
def test_uploads_in_parts_are_conditional_at_their_end(role: str) -> None:
    """The parts of an upload can't carry a condition and are let through; its completion must carry it."""
    key = "recordings/account=AC0/RE0.wav"
    assert may(role, "s3:PutObject", key, PART)
    assert may(role, "s3:PutObject", key, ONCE)
    assert not may(role, "s3:PutObject", key, ANY)


@pytest.mark.parametrize("role", NAMES)
def test_the_key_is_used_through_s3_only(role: str) -> None:
    """A role's right to the key ends where S3 is not in between, and at other keys."""
    through = {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}
    assert is_allowed(Request("kms:Decrypt", KEY, through), policies(role, BUCKET))
    assert not is_allowed(Request("kms:Decrypt", KEY), policies(role, BUCKET))
    assert not is_allowed(Request("kms:Decrypt", f"{KEY}9", through), policies(role, BUCKET))
    assert not is_allowed(Request("kms:ScheduleKeyDeletion", KEY, through), policies(role, BUCKET))


@pytest.mark.parametrize("role", NAMES)
def test_no_role_reaches_beyond_its_prefix(role: str) -> None:
    """With a prefix, what lies beside it in the same bucket can neither be read nor written."""
    beside = f"{ARN}/recordings/account=AC0/RE0.wav"
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        assert not is_allowed(Request(action, beside, TLS | ONCE), policies(role, BUCKET, "calls/"))


# The judge


@pytest.mark.parametrize(
    ("statement", "context", "applies"),
    [
        ({"Condition": {"Null": {"s3:if-none-match": "true"}}}, {}, True),
        ({"Condition": {"Null": {"s3:if-none-match": "true"}}}, {"s3:if-none-match": "*"}, False),
        ({"Condition": {"Null": {"s3:if-none-match": "false"}}}, {"s3:if-none-match": "*"}, True),
        ({"Condition": {"Bool": {"aws:SecureTransport": "false"}}}, {}, False),
        ({"Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}}}, {"s3:TlsVersion": "1.1"}, True),
        ({"Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}}}, {"s3:TlsVersion": "1.2"}, False),
        ({"Condition": {"StringEquals": {"a": ["x", "y"]}}}, {"a": "y"}, True),
        ({"Condition": {"StringEquals": {"a": "x", "b": "y"}}}, {"a": "x"}, False),
        ({"Action": "s3:put*"}, {}, True),
        ({"Action": "s3:Get*"}, {}, False),
        ({"Resource": "arn:aws:s3:::B/?"}, {}, True),
        ({"Resource": "arn:aws:s3:::b/?"}, {}, False),
    ],
)
def test_the_judge_reads_statements_as_aws_does(
    statement: dict[str, object], context: dict[str, str], applies: bool
) -> None:
    """A Deny applies when action (in any case), resource (in its case) and every condition match; then it wins."""
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    deny = {"Effect": "Deny", "Action": "*", "Resource": "*", **statement}
    request = Request("s3:PutObject", "arn:aws:s3:::B/k", context)
    assert is_allowed(request, [{"Statement": [allow]}])
    assert is_allowed(request, [{"Statement": [allow]}, {"Statement": [deny]}]) is not applies
    assert not is_allowed(request, [])
