"""The settings: what is accepted, and how mistakes are told."""

import json
import subprocess
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twilio.rest import Client

from app.settings import (
    BeatSettings,
    CommonSettings,
    SettingsError,
    TwilioAccount,
    WebSettings,
    WorkerSettings,
    load,
)

ROOT = Path(__file__).resolve().parents[2]
AC, AC2, SK = "AC" + "0123456789abcdef" * 2, "AC" + "f" * 32, "SK" + "0123456789abcdef" * 2

COMMON = {"REDIS_URL": "redis://127.0.0.1:6379/0"}
TWILIO = {"TWILIO_ACCOUNT_SID": AC, "TWILIO_AUTH_TOKEN": "token"}
MINIMAL: dict[type[CommonSettings], dict[str, str]] = {
    WebSettings: {**COMMON, **TWILIO, "PUBLIC_URL": "https://archiver.example.com"},
    WorkerSettings: {**COMMON, **TWILIO, "ARCHIVE_BUCKET": "recordings-of-acme"},
    BeatSettings: COMMON,
}
CLASSES = list(MINIMAL)


def read(cls: type[Any], **environ: str) -> Any:
    return load(cls, MINIMAL[cls] | environ)


def mistakes(cls: type[CommonSettings], environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(cls, environ)
    return caught.value.mistakes


def refused(cls: type[CommonSettings], **environ: str) -> str:
    """Return the one mistake that these variables make beside the minimal ones."""
    found = mistakes(cls, MINIMAL[cls] | environ)
    assert len(found) == 1, found
    return found[0]


# Each setting by itself

ACCEPTED = [
    (CommonSettings, "REDIS_TLS_VERIFY", "none", "none"),
    (CommonSettings, "REDIS_TLS_VERIFY", "full", "full"),
    (CommonSettings, "LOG_FORMAT", "json", "json"),
    (CommonSettings, "LOG_FORMAT", "console", "console"),
    *((CommonSettings, "LOG_LEVEL", level, level) for level in ("debug", "info", "warning", "error")),
    (WebSettings, "TWILIO_ACCOUNT_SID", AC2, AC2),
    (WebSettings, "TWILIO_REGION", "ie1", "ie1"),
    (WebSettings, "TWILIO_EDGE", "dublin", "dublin"),
    (WebSettings, "TWILIO_API_BASE_URL", "https://proxy.example.com:8443", "https://proxy.example.com:8443"),
    (WebSettings, "TWILIO_API_BASE_URL", "https://proxy.example.com/", "https://proxy.example.com"),
    (WebSettings, "TWILIO_API_BASE_URL", "http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    (WebSettings, "TWILIO_API_BASE_URL", "http://localhost:5000", "http://localhost:5000"),
    (WebSettings, "TWILIO_API_BASE_URL", "http://[::1]:5000", "http://[::1]:5000"),
    (WebSettings, "PORT", "1", 1),
    (WebSettings, "PORT", "65535", 65535),
    (WebSettings, "WEB_CONCURRENCY", "1", 1),
    (WebSettings, "WEB_CONCURRENCY", "64", 64),
    (WorkerSettings, "ARCHIVE_BUCKET", "a.b-c", "a.b-c"),
    (WorkerSettings, "ARCHIVE_PREFIX", "twilio", "twilio/"),
    (WorkerSettings, "ARCHIVE_PREFIX", "/a/b/", "a/b/"),
    (WorkerSettings, "ARCHIVE_PREFIX", "/", ""),
    (WorkerSettings, "ARCHIVE_FORMAT", "wav", "wav"),
    (WorkerSettings, "ARCHIVE_FORMAT", "mp3", "mp3"),
    (WorkerSettings, "ARCHIVE_SSE", "AES256", "AES256"),
    (WorkerSettings, "ARCHIVE_SSE", "aws:kms", "aws:kms"),
    (WorkerSettings, "ARCHIVE_STORAGE_CLASS", "STANDARD_IA", "STANDARD_IA"),
    (WorkerSettings, "ARCHIVE_STORAGE_CLASS", "GLACIER_IR", "GLACIER_IR"),
    (WorkerSettings, "ARCHIVE_BUCKET_OWNER", "123456789012", "123456789012"),
    (WorkerSettings, "ARCHIVE_VERIFY", "checksum", "checksum"),
    (WorkerSettings, "ARCHIVE_VERIFY", "readback", "readback"),
    (WorkerSettings, "TWILIO_DELETE", "verified", timedelta(0)),
    (WorkerSettings, "TWILIO_DELETE", "24h", timedelta(hours=24)),
    (WorkerSettings, "TWILIO_DELETE", "never", None),
    (WorkerSettings, "SWEEP_LOOKBACK", "40d", timedelta(days=40)),
    (WorkerSettings, "SWEEP_GRACE", "0s", timedelta(0)),
    (WorkerSettings, "CELERY_CONCURRENCY", "256", 256),
    (BeatSettings, "SWEEP_INTERVAL", "30s", timedelta(seconds=30)),
]

REFUSED = [
    (CommonSettings, "REDIS_URL", "http://host/0"),
    (CommonSettings, "REDIS_URL", "redis://"),
    (CommonSettings, "REDIS_URL", "127.0.0.1:6379"),
    (CommonSettings, "REDIS_URL", "redis://host:port/0"),
    (CommonSettings, "REDIS_URL", "redis://host:66000/0"),
    (CommonSettings, "REDIS_URL", "redis://host/first"),
    (CommonSettings, "REDIS_URL", "redis://host /0"),
    (CommonSettings, "REDIS_TLS_VERIFY", "false"),
    (CommonSettings, "LOG_FORMAT", "xml"),
    (CommonSettings, "LOG_LEVEL", "verbose"),
    (WebSettings, "TWILIO_ACCOUNT_SID", "AC123"),
    (WebSettings, "TWILIO_ACCOUNT_SID", f"{AC}0"),
    (WebSettings, "TWILIO_ACCOUNT_SID", f"{AC}\n"),
    (WebSettings, "TWILIO_ACCOUNT_SID", "RE" + "0" * 32),
    (WebSettings, "TWILIO_AUTH_TOKEN", " , ,"),
    (WebSettings, "TWILIO_REGION", "ie1.example.com/"),
    (WebSettings, "TWILIO_EDGE", "-dublin"),
    (WebSettings, "TWILIO_API_BASE_URL", "http://proxy.example.com"),
    (WebSettings, "TWILIO_API_BASE_URL", "http://127.0.0.1.example.com"),
    (WebSettings, "TWILIO_API_BASE_URL", "proxy.example.com"),
    (WebSettings, "TWILIO_API_BASE_URL", "ftp://proxy.example.com"),
    (WebSettings, "TWILIO_API_BASE_URL", "https://"),
    (WebSettings, "TWILIO_API_BASE_URL", "https://user@proxy.example.com"),
    (WebSettings, "TWILIO_API_BASE_URL", "https://:password@proxy.example.com"),
    (WebSettings, "TWILIO_API_BASE_URL", "https://proxy.example.com/2010-04-01"),
    (WebSettings, "TWILIO_API_BASE_URL", "https://proxy.example.com?a=1"),
    (WebSettings, "TWILIO_API_BASE_URL", "https://proxy.example.com:0"),
    (WebSettings, "TWILIO_API_BASE_URL", "https://proxy.example.com:99999"),
    (WebSettings, "PUBLIC_URL", "archiver.example.com"),
    (WebSettings, "PUBLIC_URL", "ftp://archiver.example.com"),
    (WebSettings, "PUBLIC_URL", "https://"),
    (WebSettings, "PUBLIC_URL", "https:///path"),
    (WebSettings, "PUBLIC_URL", "https://user:password@"),
    (WebSettings, "PUBLIC_URL", "https://archiver.example.com?tenant=1"),
    (WebSettings, "PUBLIC_URL", "https://archiver.example.com/a?tenant=1#rc=5"),
    (WebSettings, "PUBLIC_URL", "https://archiver.example.com:"),
    (WebSettings, "PUBLIC_URL", "https://archiver.example.com:0"),
    (WebSettings, "PUBLIC_URL", "https://archiver.example.com:65536"),
    (WebSettings, "PUBLIC_URL", "https://archiver.example.com:https"),
    (WebSettings, "PUBLIC_URL", "https://archiver example.com"),
    (WebSettings, "PUBLIC_URL", "https://archiver.example.com/ "),
    (WebSettings, "PUBLIC_URL", " https://archiver.example.com"),
    (WebSettings, "PUBLIC_URL", "https://aufzeichnüngen.example.com"),
    (WebSettings, "PUBLIC_URL", "https://archiver.example.com/aufzeichnüngen"),
    (WebSettings, "PUBLIC_URL", "https://[::1"),
    (WebSettings, "PUBLIC_URL", "https://[not-an-address]/"),
    (WebSettings, "PORT", "0"),
    (WebSettings, "PORT", "65536"),
    (WebSettings, "PORT", "http"),
    (WebSettings, "WEB_CONCURRENCY", "0"),
    (WebSettings, "WEB_CONCURRENCY", "65"),
    (WebSettings, "WEB_CONCURRENCY", "2.5"),
    (WorkerSettings, "ARCHIVE_BUCKET", "A"),
    (WorkerSettings, "ARCHIVE_BUCKET", "s3://recordings"),
    (WorkerSettings, "ARCHIVE_BUCKET", "recordings\n"),
    (WorkerSettings, "ARCHIVE_BUCKET", "x" * 64),
    (WorkerSettings, "ARCHIVE_PREFIX", "x" * 201),
    (WorkerSettings, "ARCHIVE_FORMAT", "ogg"),
    (WorkerSettings, "ARCHIVE_SSE", "aes256"),
    (WorkerSettings, "ARCHIVE_STORAGE_CLASS", "COLD"),
    (WorkerSettings, "ARCHIVE_BUCKET_OWNER", "12345"),
    (WorkerSettings, "ARCHIVE_BUCKET_OWNER", "١٢٣٤٥٦٧٨٩٠١٢"),
    (WorkerSettings, "ARCHIVE_VERIFY", "never"),
    (WorkerSettings, "TWILIO_DELETE", "yes"),
    (WorkerSettings, "TWILIO_DELETE", "-1h"),
    (WorkerSettings, "TWILIO_DELETE", "36501d"),
    (WorkerSettings, "SWEEP_LOOKBACK", "2"),
    (WorkerSettings, "SWEEP_LOOKBACK", "2w"),
    (WorkerSettings, "SWEEP_GRACE", "1.5m"),
    (WorkerSettings, "CELERY_CONCURRENCY", "257"),
    (BeatSettings, "SWEEP_INTERVAL", "0s"),
    (BeatSettings, "SWEEP_INTERVAL", "5 m"),
]


def processes(cls: type[CommonSettings]) -> list[type[CommonSettings]]:
    return [candidate for candidate in CLASSES if issubclass(candidate, cls)]


@pytest.mark.parametrize(("cls", "name", "text", "value"), ACCEPTED)
def test_right_value_is_read(cls: type[CommonSettings], name: str, text: str, value: object) -> None:
    """A value as the table of settings describes it is read in each process that uses it."""
    for process in processes(cls):
        assert getattr(read(process, **{name: text}), name) == value


@pytest.mark.parametrize(("cls", "name", "text"), REFUSED)
def test_wrong_value_is_refused_by_name(cls: type[CommonSettings], name: str, text: str) -> None:
    """A wrong value is one mistake, which names the setting and says what would be right."""
    for process in processes(cls):
        mistake = refused(process, **{name: text})
        assert mistake.startswith(f"{name}: ")
        assert "pattern" not in mistake
        assert "\n" not in mistake


@pytest.mark.parametrize(
    ("cls", "defaults"),
    [
        (
            WebSettings,
            {
                "REDIS_TLS_VERIFY": "full",
                "LOG_FORMAT": "json",
                "LOG_LEVEL": "info",
                "TWILIO_API_KEY": None,
                "TWILIO_API_SECRET": None,
                "TWILIO_ACCOUNTS": [],
                "TWILIO_REGION": None,
                "TWILIO_EDGE": None,
                "TWILIO_API_BASE_URL": None,
                "WEBHOOK_USERNAME": None,
                "WEBHOOK_PASSWORD": None,
                "PORT": 8000,
                "WEB_CONCURRENCY": 2,
            },
        ),
        (
            WorkerSettings,
            {
                "ARCHIVE_PREFIX": "",
                "ARCHIVE_FORMAT": "wav",
                "ARCHIVE_SSE": None,
                "ARCHIVE_KMS_KEY_ID": None,
                "ARCHIVE_STORAGE_CLASS": "STANDARD",
                "ARCHIVE_BUCKET_OWNER": None,
                "ARCHIVE_OBJECT_LOCK_MODE": None,
                "ARCHIVE_RETENTION_DAYS": None,
                "ARCHIVE_VERIFY": "checksum",
                "TWILIO_DELETE": timedelta(0),
                "SWEEP_LOOKBACK": timedelta(days=2),
                "SWEEP_GRACE": timedelta(minutes=2),
            },
        ),
        (BeatSettings, {"SWEEP_INTERVAL": timedelta(minutes=5)}),
    ],
)
def test_defaults_are_those_of_the_contract(cls: type[CommonSettings], defaults: dict[str, object]) -> None:
    """What is not set has the documented default."""
    settings = read(cls)
    assert {name: getattr(settings, name) for name in defaults} == defaults


@pytest.mark.parametrize(
    ("cls", "required"),
    [
        (WebSettings, {"REDIS_URL", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "PUBLIC_URL"}),
        (WorkerSettings, {"REDIS_URL", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "ARCHIVE_BUCKET"}),
        (BeatSettings, {"REDIS_URL"}),
    ],
)
def test_each_process_asks_only_for_what_it_needs(cls: type[CommonSettings], required: set[str]) -> None:
    """An empty environment lists exactly what a process requires, each with what to set it to."""
    found = mistakes(cls, {})
    assert {mistake.partition(":")[0] for mistake in found} == required
    assert all("is missing; set it to " in mistake for mistake in found)


def test_a_worker_with_an_api_key_needs_no_auth_token() -> None:
    """Who has the auth token may do everything at Twilio: with an API key, a worker does without it."""
    key = {"TWILIO_API_KEY": SK, "TWILIO_API_SECRET": "x"}
    further = [{"account_sid": AC2, "api_key": SK, "api_secret": "x"}]
    environ = {name: value for name, value in MINIMAL[WorkerSettings].items() if name != "TWILIO_AUTH_TOKEN"} | key
    accounts = load(WorkerSettings, environ | {"TWILIO_ACCOUNTS": json.dumps(further)}).accounts
    assert [(account.api_key, account.auth_tokens) for account in accounts.values()] == [(SK, ()), (SK, ())]


def test_web_needs_what_signs_callbacks() -> None:
    """An API key signs nothing: web refuses accounts of which it could verify no callback."""
    key = {"TWILIO_API_KEY": SK, "TWILIO_API_SECRET": "x"}
    environ = {name: value for name, value in MINIMAL[WebSettings].items() if name != "TWILIO_AUTH_TOKEN"} | key
    assert [mistake.partition(":")[0] for mistake in mistakes(WebSettings, environ)] == ["TWILIO_AUTH_TOKEN"]
    further = {"account_sid": AC2, "api_key": SK, "api_secret": "x"}
    assert "can't be verified" in refused(WebSettings, TWILIO_ACCOUNTS=json.dumps([further]))
    read(WebSettings, TWILIO_ACCOUNTS=json.dumps([further | {"shared_keys": {"key-1": "x"}}]))


BUCKETEER = {
    "BUCKETEER_BUCKET_NAME": "bucketeer-0123",
    "BUCKETEER_AWS_REGION": "eu-west-1",
    "BUCKETEER_AWS_ACCESS_KEY_ID": "key",
    "BUCKETEER_AWS_SECRET_ACCESS_KEY": "secret",
}


def test_bucket_of_the_add_on_is_used() -> None:
    """Bucketeer's bucket is the archive's, with its own credentials, where no other bucket is named."""
    environ = {name: value for name, value in MINIMAL[WorkerSettings].items() if name != "ARCHIVE_BUCKET"}
    settings = load(WorkerSettings, environ | BUCKETEER)
    assert settings.ARCHIVE_BUCKET == "bucketeer-0123"
    assert settings.bucket_access == {
        "region_name": "eu-west-1",
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
    }


def test_credentials_of_the_add_on_are_for_its_bucket_only() -> None:
    """Another bucket is reached as boto3 finds out by itself, whatever the add-on has set."""
    settings = read(WorkerSettings, **BUCKETEER)
    assert settings.ARCHIVE_BUCKET == "recordings-of-acme"
    assert settings.bucket_access == {}


@pytest.mark.parametrize("cls", CLASSES)
def test_empty_counts_as_unset(cls: type[CommonSettings]) -> None:
    """An empty variable is the same as none, for required and optional settings and their files."""
    empty = dict.fromkeys([*cls.model_fields, *(f"{name}_FILE" for name in cls.model_fields)], "")
    assert mistakes(cls, empty) == mistakes(cls, {})
    assert load(cls, empty | MINIMAL[cls]) == read(cls)


def test_other_variables_are_ignored() -> None:
    """Variables that are no settings, such as boto3's own, are left alone."""
    assert read(WorkerSettings, AWS_DEFAULT_REGION="eu-west-1", PORT="not a port of mine") == read(WorkerSettings)


@given(number=st.integers(0, 999_999_999), unit=st.sampled_from("smhd"))
def test_durations(number: int, unit: str) -> None:
    """A number and a unit are that many seconds, minutes, hours or days; over 36500 days is refused."""
    seconds = number * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    environ = MINIMAL[WorkerSettings] | {"SWEEP_GRACE": f"{number}{unit}"}
    if seconds <= 36500 * 86400:
        settings = load(WorkerSettings, environ)
        assert settings.SWEEP_GRACE.total_seconds() == seconds
    else:
        assert "at most 36500d" in mistakes(WorkerSettings, environ)[0]


# The public URL


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://archiver.example.com", "https://archiver.example.com"),
        ("https://archiver.example.com/", "https://archiver.example.com"),
        ("https://archiver.example.com/twilio/v1/", "https://archiver.example.com/twilio/v1"),
        ("https://archiver.example.com:8443/twilio", "https://archiver.example.com:8443/twilio"),
        ("https://archiver.example.com:443", "https://archiver.example.com:443"),
        ("http://archiver.example.com:80", "http://archiver.example.com:80"),
        ("https://user:pass@archiver.example.com/a", "https://archiver.example.com/a"),
        ("https://user:p@ss@archiver.example.com:8443/a", "https://archiver.example.com:8443/a"),
        ("https://archiver.example.com#rc=5&rp=all", "https://archiver.example.com"),
        ("https://archiver.example.com/a/#rc=5&rp=all", "https://archiver.example.com/a"),
        ("https://user:pass@archiver.example.com:8443/a#rc=5&rp=all", "https://archiver.example.com:8443/a"),
        ("https://Archiver.Example.com/A", "https://Archiver.Example.com/A"),
        ("https://[2001:db8::1]:8443/a", "https://[2001:db8::1]:8443/a"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]"),
        ("https://archiver.example.com:0443/a", "https://archiver.example.com:0443/a"),
    ],
)
def test_public_url_is_origin_and_path_as_written(given: str, kept: str) -> None:
    """Userinfo, fragment and trailing slash are dropped; host and port stay as Twilio was given them."""
    settings = read(WebSettings, PUBLIC_URL=given)
    assert str(settings.PUBLIC_URL) == kept


# Accounts and credentials


@pytest.mark.parametrize("text", ["old,new", " old , new ,", "old,,new"])
def test_several_tokens_are_separated_by_commas(text: str) -> None:
    """During a rotation there are several auth tokens, in the order given."""
    account = read(WebSettings, TWILIO_AUTH_TOKEN=text).accounts[AC]
    assert [token.get_secret_value() for token in account.auth_tokens] == ["old", "new"]


def test_further_accounts() -> None:
    """`TWILIO_ACCOUNTS` adds accounts with all their keys; the main account comes first."""
    further = {
        "account_sid": AC2,
        "auth_tokens": ["one", "two"],
        "shared_keys": {"key-1": "shared"},
        "api_key": SK,
        "api_secret": "api",
        "region": "ie1",
        "edge": "dublin",
    }
    accounts = read(WebSettings, TWILIO_ACCOUNTS=json.dumps([further])).accounts
    assert list(accounts) == [AC, AC2]
    account = accounts[AC2]
    assert [token.get_secret_value() for token in account.auth_tokens] == ["one", "two"]
    assert account.shared_keys["key-1"].get_secret_value() == "shared"
    assert account.api_key == SK
    assert account.api_secret is not None
    assert account.api_secret.get_secret_value() == "api"
    assert account.api_base_url == "https://api.dublin.ie1.twilio.com"
    assert accounts[AC].api_base_url == "https://api.twilio.com"


def test_further_accounts_tokens_may_be_one_string() -> None:
    """The tokens of a further account may be written like those of the main one."""
    text = json.dumps([{"account_sid": AC2, "auth_tokens": "one,two"}])
    assert len(read(WebSettings, TWILIO_ACCOUNTS=text).accounts[AC2].auth_tokens) == 2


@pytest.mark.parametrize(
    ("accounts", "place"),
    [
        ("{", "TWILIO_ACCOUNTS"),
        ("secretsecret", "TWILIO_ACCOUNTS"),
        ('{"account_sid": "secretsecret"}', "TWILIO_ACCOUNTS"),
        ("null", "TWILIO_ACCOUNTS"),
        ('["secretsecret"]', "TWILIO_ACCOUNTS[0]"),
        ([{"account_sid": "secretsecret", "auth_tokens": "x"}], "TWILIO_ACCOUNTS[0].account_sid"),
        ([{"auth_tokens": "secretsecret"}], "TWILIO_ACCOUNTS[0].account_sid"),
        ([{"account_sid": AC2}], "TWILIO_ACCOUNTS[0].auth_tokens"),
        ([{"account_sid": AC2, "auth_tokens": []}], "TWILIO_ACCOUNTS[0].auth_tokens"),
        ([{"account_sid": AC2, "auth_tokens": ""}], "TWILIO_ACCOUNTS[0].auth_tokens"),
        ([{"account_sid": AC2, "auth_tokens": ["secretsecret", ""]}], "TWILIO_ACCOUNTS[0].auth_tokens[1]"),
        ([{"account_sid": AC2, "auth_tokens": ["x"], "token": "secretsecret"}], "TWILIO_ACCOUNTS[0]"),
        (
            [{"account_sid": AC2, "auth_tokens": ["x"], "shared_keys": {"secretsecret": ""}}],
            "TWILIO_ACCOUNTS[0].shared_keys",
        ),
        ([{"account_sid": AC2, "auth_tokens": ["x"], "api_key": SK}], "TWILIO_ACCOUNTS[0].api_secret"),
        ([{"account_sid": AC2, "auth_tokens": ["x"], "api_secret": "secretsecret"}], "TWILIO_ACCOUNTS[0].api_secret"),
        ([{"account_sid": AC2, "auth_tokens": ["x"], "region": "http://secretsecret"}], "TWILIO_ACCOUNTS[0].region"),
        ([{"account_sid": AC, "auth_tokens": ["secretsecret"]}], "TWILIO_ACCOUNTS"),
        ([{"account_sid": AC2, "auth_tokens": ["secretsecret"]}] * 2, "TWILIO_ACCOUNTS"),
    ],
)
def test_mistakes_in_further_accounts_are_located_without_an_echo(accounts: object, place: str) -> None:
    """A mistake in `TWILIO_ACCOUNTS` says where it is and repeats nothing of what was written there."""
    text = accounts if isinstance(accounts, str) else json.dumps(accounts)
    mistake = refused(WorkerSettings, TWILIO_ACCOUNTS=text)
    assert mistake.startswith(f"{place}: ")
    assert "secretsecret" not in mistake
    assert AC2 not in mistake


def test_unknown_key_of_an_account_lists_the_known_ones() -> None:
    """A misspelt key is not ignored: the mistake lists the right spellings."""
    mistake = refused(
        WebSettings, TWILIO_ACCOUNTS=json.dumps([{"account_sid": AC2, "auth_tokens": "x", "tokens": "y"}])
    )
    for key in ("account_sid", "auth_tokens", "shared_keys", "api_key", "api_secret", "region", "edge"):
        assert key in mistake


@pytest.mark.parametrize("edge", [None, "dublin"])
@pytest.mark.parametrize("region", [None, "ie1"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rest_host_follows_region_and_edge_as_in_twilios_sdk(region: str | None, edge: str | None) -> None:
    """The REST host is the one that Twilio's own SDK builds from region and edge."""
    settings = read(WebSettings, TWILIO_REGION=region or "", TWILIO_EDGE=edge or "")
    sdk = Client("AC", "token", region=region, edge=edge, environment={})
    assert settings.accounts[AC].api_base_url == sdk.get_hostname("https://api.twilio.com")


def test_base_url_overrides_every_host() -> None:
    """`TWILIO_API_BASE_URL` stands above region and edge, for each account."""
    accounts = read(
        WorkerSettings,
        TWILIO_REGION="ie1",
        TWILIO_API_BASE_URL="http://127.0.0.1:5000",
        TWILIO_ACCOUNTS=json.dumps([{"account_sid": AC2, "auth_tokens": "x", "edge": "dublin"}]),
    ).accounts
    assert {account.api_base_url for account in accounts.values()} == {"http://127.0.0.1:5000"}


# Settings that belong together


@pytest.mark.parametrize(
    ("cls", "given", "missing"),
    [
        (WebSettings, {"TWILIO_API_KEY": SK}, "TWILIO_API_SECRET"),
        (WebSettings, {"TWILIO_API_SECRET": "x"}, "TWILIO_API_KEY"),
        (WebSettings, {"WEBHOOK_USERNAME": "x"}, "WEBHOOK_PASSWORD"),
        (WebSettings, {"WEBHOOK_PASSWORD": "x"}, "WEBHOOK_USERNAME"),
        (WorkerSettings, {"ARCHIVE_OBJECT_LOCK_MODE": "COMPLIANCE"}, "ARCHIVE_RETENTION_DAYS"),
        (WorkerSettings, {"ARCHIVE_RETENTION_DAYS": "365"}, "ARCHIVE_OBJECT_LOCK_MODE"),
    ],
)
def test_half_of_a_pair_is_refused(cls: type[CommonSettings], given: dict[str, str], missing: str) -> None:
    """Two settings that only work together are asked for together."""
    (name,) = given
    assert refused(cls, **given) == f"{missing}: is missing; it belongs to {name}"


@pytest.mark.parametrize(
    ("cls", "pair"),
    [
        (WebSettings, {"TWILIO_API_KEY": SK, "TWILIO_API_SECRET": "x"}),
        (WebSettings, {"WEBHOOK_USERNAME": "twilio", "WEBHOOK_PASSWORD": "x"}),
        (WorkerSettings, {"ARCHIVE_OBJECT_LOCK_MODE": "GOVERNANCE", "ARCHIVE_RETENTION_DAYS": "36500"}),
        (WorkerSettings, {"ARCHIVE_SSE": "aws:kms", "ARCHIVE_KMS_KEY_ID": "alias/recordings"}),
        (WorkerSettings, {"ARCHIVE_SSE": "aws:kms"}),
    ],
)
def test_whole_pairs_are_read(cls: type[CommonSettings], pair: dict[str, str]) -> None:
    """Settings that belong together are read when both are given."""
    assert set(pair) <= read(cls, **pair).model_fields_set


@pytest.mark.parametrize("sse", ["", "AES256"])
def test_kms_key_without_kms_is_refused(sse: str) -> None:
    """A KMS key that would not be used is a mistake."""
    assert refused(WorkerSettings, ARCHIVE_SSE=sse, ARCHIVE_KMS_KEY_ID="alias/x").startswith("ARCHIVE_KMS_KEY_ID: ")


@pytest.mark.parametrize("tier", ["GLACIER", "DEEP_ARCHIVE"])
def test_what_could_not_be_read_back_is_refused(tier: str) -> None:
    """Media in an archive tier can't be read again without a restore: with `readback` nothing would ever be proven."""
    assert read(WorkerSettings, ARCHIVE_STORAGE_CLASS=tier).ARCHIVE_VERIFY == "checksum"
    assert read(WorkerSettings, ARCHIVE_STORAGE_CLASS="GLACIER_IR", ARCHIVE_VERIFY="readback")
    mistake = refused(WorkerSettings, ARCHIVE_STORAGE_CLASS=tier, ARCHIVE_VERIFY="readback")
    assert mistake.startswith("ARCHIVE_STORAGE_CLASS: ")


@pytest.mark.parametrize("days", ["0", "-1", "36501", "ten"])
def test_retention_is_within_a_century(days: str) -> None:
    """A retention of no days, or of more than a date can hold, is refused."""
    mistake = refused(WorkerSettings, ARCHIVE_OBJECT_LOCK_MODE="GOVERNANCE", ARCHIVE_RETENTION_DAYS=days)
    assert mistake.startswith("ARCHIVE_RETENTION_DAYS: ")


def test_user_name_with_a_colon_is_refused() -> None:
    """HTTP Basic can't carry a user name with a colon: no callback would ever be accepted."""
    mistake = refused(WebSettings, WEBHOOK_USERNAME="a:b", WEBHOOK_PASSWORD="x")
    assert mistake.startswith("WEBHOOK_USERNAME: ")


def test_all_mistakes_of_all_kinds_are_listed_at_once(tmp_path: Path) -> None:
    """Missing, wrong, given twice, unreadable and conflicting settings are told together, each once."""
    (tmp_path / "token").write_text("x")
    found = mistakes(
        WorkerSettings,
        {
            "REDIS_URL": "http://wrong",
            "TWILIO_ACCOUNT_SID": "wrong",
            "TWILIO_AUTH_TOKEN": "x",
            "TWILIO_AUTH_TOKEN_FILE": str(tmp_path / "token"),
            "TWILIO_API_KEY": SK,
            "TWILIO_API_SECRET_FILE": str(tmp_path / "nowhere"),
            "TWILIO_ACCOUNTS": json.dumps([{"account_sid": AC2, "auth_tokens": "x"}] * 2),
            "ARCHIVE_OBJECT_LOCK_MODE": "SOMETIMES",
            "ARCHIVE_KMS_KEY_ID": "alias/x",
            "SWEEP_GRACE": "soon",
        },
    )
    assert sorted(mistake.partition(":")[0] for mistake in found) == [
        "ARCHIVE_BUCKET",
        "ARCHIVE_KMS_KEY_ID",
        "ARCHIVE_OBJECT_LOCK_MODE",
        "ARCHIVE_RETENTION_DAYS",
        "REDIS_URL",
        "SWEEP_GRACE",
        "TWILIO_ACCOUNTS",
        "TWILIO_ACCOUNT_SID",
        "TWILIO_API_SECRET",
        "TWILIO_AUTH_TOKEN",
    ]


# Secrets in files


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_secret_from_a_file(tmp_path: Path, ending: str) -> None:
    """`NAME_FILE` is the path of a file with the value; the line's end does not belong to it."""
    path = tmp_path / "secret"
    path.write_bytes(f" from the file{ending}".encode())
    settings = read(WebSettings, WEBHOOK_USERNAME="twilio", WEBHOOK_PASSWORD_FILE=str(path))
    assert settings.WEBHOOK_PASSWORD.get_secret_value() == " from the file"


@pytest.mark.parametrize(
    "name",
    ["TWILIO_AUTH_TOKEN", "TWILIO_API_SECRET", "TWILIO_ACCOUNTS", "REDIS_URL", "WEBHOOK_PASSWORD"],
)
def test_every_secret_may_come_from_a_file(tmp_path: Path, name: str) -> None:
    """Each setting that holds a secret can be given as a file."""
    environ = MINIMAL[WebSettings] | {
        "TWILIO_API_KEY": SK,
        "TWILIO_API_SECRET": "api",
        "TWILIO_ACCOUNTS": "[]",
        "WEBHOOK_USERNAME": "twilio",
        "WEBHOOK_PASSWORD": "web",
    }
    (tmp_path / "secret").write_text(environ[name])
    from_file = {other: text for other, text in environ.items() if other != name}
    from_file[f"{name}_FILE"] = str(tmp_path / "secret")
    assert load(WebSettings, from_file) == load(WebSettings, environ)


def test_setting_given_twice_is_refused(tmp_path: Path) -> None:
    """A setting and its file together are a mistake: nobody could tell which counts."""
    (tmp_path / "secret").write_text("two")
    assert refused(BeatSettings, REDIS_URL_FILE=str(tmp_path / "secret")) == (
        "REDIS_URL: is given twice; unset REDIS_URL or REDIS_URL_FILE"
    )


@pytest.mark.parametrize("path", ["somewhere", "."], ids=["absent", "directory"])
def test_unreadable_file_is_refused(tmp_path: Path, path: str) -> None:
    """A file that can't be read is named by its setting, without its path."""
    (mistake,) = mistakes(BeatSettings, {"REDIS_URL_FILE": str(tmp_path / path)})
    assert mistake.startswith("REDIS_URL: the file that REDIS_URL_FILE names can't be read")
    assert str(tmp_path) not in mistake


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A file with bytes that are not UTF-8 is a mistake, without its content."""
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00secret")
    assert mistakes(BeatSettings, {"REDIS_URL_FILE": str(tmp_path / "secret")}) == ["REDIS_URL: is not text in UTF-8"]


def test_secret_of_two_lines_is_refused(tmp_path: Path) -> None:
    """A file with more than the secret is a mistake, told without its content."""
    (tmp_path / "secret").write_text("token\nsomething else\n")
    environ = {name: text for name, text in MINIMAL[WebSettings].items() if name != "TWILIO_AUTH_TOKEN"}
    (mistake,) = mistakes(WebSettings, environ | {"TWILIO_AUTH_TOKEN_FILE": str(tmp_path / "secret")})
    assert mistake == "TWILIO_AUTH_TOKEN[0]: must be one line of text and not empty"


def test_empty_file_counts_as_unset(tmp_path: Path) -> None:
    """An empty file is the same as an empty variable."""
    (tmp_path / "secret").write_text("\n")
    assert mistakes(BeatSettings, {"REDIS_URL_FILE": str(tmp_path / "secret")}) == mistakes(BeatSettings, {})


# No value in any output

CANARY = "Zq7CANARYx"
SECRETS = ("REDIS_URL", "TWILIO_AUTH_TOKEN", "TWILIO_API_SECRET", "TWILIO_ACCOUNTS", "WEBHOOK_PASSWORD")
EVERYTHING = {
    **MINIMAL[WebSettings],
    **MINIMAL[WorkerSettings],
    "TWILIO_API_KEY": SK,
    "TWILIO_API_SECRET": "api",
    "WEBHOOK_USERNAME": "twilio",
    "WEBHOOK_PASSWORD": "web",
}


@given(
    cls=st.sampled_from(CLASSES),
    name=st.sampled_from(sorted({name for cls in CLASSES for name in cls.model_fields})),
    before=st.sampled_from(["", "redis://user:", "https://", '[{"account_sid": "', '[{"', '["', "[", "https://["])
    | st.text(max_size=8),
    after=st.sampled_from(["", "@host/0", "@host:x/0", "℀@host/0", '"}]', '": 1}]', '"]', "]/", "]", ":99999/"])
    | st.text(max_size=8),
)
@example(cls=BeatSettings, name="REDIS_URL", before="redis://user:", after="℀@host/0")
@example(cls=WebSettings, name="PUBLIC_URL", before="https://[", after="]/")
def test_no_mistake_repeats_a_value(cls: type[CommonSettings], name: str, before: str, after: str) -> None:
    """Whatever is wrong with a value, it appears neither in the mistakes nor in the error nor in its traceback."""
    try:
        settings = load(cls, {**EVERYTHING, name: f"{before}{CANARY}{after}"})
    except SettingsError as error:
        shown = [*error.mistakes, repr(error), *traceback.format_exception(error)]
        assert CANARY not in "".join(shown)
    else:
        if name in SECRETS:
            shown = [repr(settings), str(settings), settings.model_dump_json()]
            assert CANARY not in "".join(shown)


@pytest.mark.parametrize("cls", [WebSettings, WorkerSettings])
def test_settings_show_no_secret(cls: type[Any]) -> None:
    """No secret is in the representation of settings or of an account, before or after the accounts were used."""
    settings = read(
        cls,
        REDIS_URL=f"rediss://:{CANARY}@host/0",
        TWILIO_AUTH_TOKEN=f"{CANARY},{CANARY}2",
        TWILIO_API_KEY=SK,
        TWILIO_API_SECRET=CANARY,
        TWILIO_ACCOUNTS=json.dumps(
            [
                {
                    "account_sid": AC2,
                    "auth_tokens": [CANARY],
                    "shared_keys": {"id": CANARY},
                    "api_key": SK,
                    "api_secret": CANARY,
                }
            ]
        ),
        WEBHOOK_USERNAME="twilio",
        WEBHOOK_PASSWORD=CANARY,
    )
    accounts = settings.accounts
    assert CANARY not in "".join(map(str, [settings, repr(settings), accounts, repr(accounts), settings.__dict__]))


def test_direct_validation_shows_no_secret() -> None:
    """Pydantic's own error for an account shows no input."""
    with pytest.raises(ValueError) as caught:
        TwilioAccount.model_validate({"account_sid": CANARY, "auth_tokens": [CANARY, 5], "other": CANARY})
    assert CANARY not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("name", sorted(set(EVERYTHING) & set(WebSettings.model_fields)))
def test_bytes_that_are_no_text_are_refused(name: str) -> None:
    """A variable with bytes that are not UTF-8 is a mistake, not a crash."""
    environ = {name: text for name, text in EVERYTHING.items() if name in WebSettings.model_fields}
    assert mistakes(WebSettings, environ | {name: f"{environ[name]}\udcff"}) == [f"{name}: is not text in UTF-8"]


def test_settings_cannot_be_changed() -> None:
    """Settings are read once and then fixed."""
    settings = read(WorkerSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.ARCHIVE_BUCKET = "another"


# The end of a process that can't start


@pytest.mark.parametrize("cls", CLASSES)
def test_process_ends_with_every_mistake_listed(cls: type[CommonSettings]) -> None:
    """A process that can't start lists its mistakes on standard error, a line each, and ends with exit code 5."""
    done = subprocess.run(
        [sys.executable, "-c", f"from app.settings import *; load_or_exit({cls.__name__})"],
        cwd=ROOT,
        env={"LOG_LEVEL": CANARY},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 5
    assert done.stdout == ""
    assert sorted(done.stderr.splitlines()[1:]) == sorted(f"  {line}" for line in mistakes(cls, {"LOG_LEVEL": CANARY}))
    assert CANARY not in done.stderr


def test_process_with_right_settings_starts() -> None:
    """A process with right settings reads them from its environment and goes on."""
    done = subprocess.run(
        [sys.executable, "-c", "from app.settings import *; print(load_or_exit(BeatSettings).SWEEP_INTERVAL)"],
        cwd=ROOT,
        env={"REDIS_URL": "redis://host", "SWEEP_INTERVAL": "90s"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("0:01:30\n", "")
