"""Check the queue: that Redis is reached as the settings say, keeps what it is given, and that somebody takes it."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from time import time
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from app.queue import ARCHIVE_QUEUE, DELETE_QUEUE, KEY_PREFIX, SWEEP_QUEUE, redis_client
from app.settings import CommonSettings
from workers.checks.network import Fault, fault_of, judge_skew
from workers.checks.results import Result, amber, green, red, skipped
from workers.sweep import CHORE, DAY_S, MAX_QUEUE_DEPTH

_OLDEST: Final = (6, 2)  # what kombu 5.7 needs
_FULL: Final = 0.95
_NEARLY_FULL: Final = 0.8
_LOCAL: Final = ("127.0.0.1", "::1", "localhost")
_PROVIDER: Final = "or ask the provider for a plan that does"


def check_redis(settings: CommonSettings) -> Iterator[Result]:
    """Connect as every process does, and look at what Redis says of itself."""
    url = urlsplit(settings.REDIS_URL.get_secret_value())
    where = f"{url.hostname}:{url.port or 6379}"
    with _client(settings) as client:
        try:
            client.ping()
        except AuthenticationError:
            yield red("reached", f"{where} refuses the password", "correct user name and password in REDIS_URL")
            return
        except ResponseError as error:
            mend = "correct the database number in REDIS_URL, or give its user leave for all commands"
            yield red("reached", f"{where} answers {_code(error)}", mend)
            return
        except (RedisError, OSError) as error:
            fault = fault_of(error)
            yield red("reached", f"{where}: {fault.words}", _mend(settings, fault))
            return
        yield green("reached", where)
        yield _tls(settings)
        try:
            for section, judge in (("server", _server), ("memory", _memory), ("persistence", _persistence)):
                yield from _told(client, section, judge)
            yield from _clock(client)
            yield from _use(client)
        except (RedisError, OSError) as error:
            yield red("connection", f"it broke: {fault_of(error).words}", "see what ends connections to Redis")


def _client(settings: CommonSettings) -> Redis:
    client = redis_client(settings)
    client.set_retry(Retry(NoBackoff(), 0))
    return client


def _mend(settings: CommonSettings, fault: Fault) -> str:
    url = settings.REDIS_URL.get_secret_value()
    if fault.kind == "certificate":
        return (
            "use the host name that is in its certificate; where the provider signs it itself (Heroku), "
            "set REDIS_TLS_VERIFY=none"
        )
    if fault.kind in ("closed", "timeout", "tls"):
        other, words = ("rediss", "it speaks TLS") if url.startswith("redis:") else ("redis", "it does not speak TLS")
        if _answers(settings, f"{other}{url[url.index(':') :]}"):
            return f"{words}: begin REDIS_URL with {other}://"
    return {
        "tls": "correct the port in REDIS_URL",
        "name": "correct the host in REDIS_URL",
        "refused": "start Redis, and mend host and port in REDIS_URL",
    }.get(fault.kind, "let this machine reach Redis (firewall, security group), and mend REDIS_URL")


def _answers(settings: CommonSettings, url: str) -> bool:
    """Tell whether it is Redis that answers under another URL, also when it then refuses us."""
    with _client(settings.model_copy(update={"REDIS_URL": SecretStr(url), "REDIS_TLS_VERIFY": "none"})) as client:
        try:
            client.ping()
        except (AuthenticationError, ResponseError):
            return True
        except (RedisError, OSError):
            return False
    return True


def _tls(settings: CommonSettings) -> Result:
    url = urlsplit(settings.REDIS_URL.get_secret_value())
    if url.scheme == "rediss" and settings.REDIS_TLS_VERIFY == "full":
        return green("TLS", "encrypted, and the certificate is verified")
    if url.scheme == "rediss":
        mend = "set REDIS_TLS_VERIFY=full, unless the provider signs its certificates itself (Heroku)"
        return amber("TLS", "encrypted, but nobody verifies with whom (REDIS_TLS_VERIFY=none)", mend)
    if url.hostname in _LOCAL:
        return green("TLS", "not needed: Redis is on this machine")
    return amber("TLS", "not encrypted", "begin REDIS_URL with rediss://, or keep the network private")


def _told(client: Redis, section: str, judge: Callable[[Mapping[str, Any]], Iterator[Result]]) -> Iterator[Result]:
    """Judge a section of INFO, where Redis tells it."""
    try:
        info = dict(client.info(section)) | dict(client.info("replication") if section == "server" else {})
    except ResponseError as error:
        yield skipped(section, f"Redis does not tell its INFO: {_code(error)}")
    else:
        yield from judge(info)


def _server(info: Mapping[str, Any]) -> Iterator[Result]:
    version = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        yield red("version", version, "use Redis 6.2 or newer, or Valkey: Celery's transport needs it")
    else:
        yield green("version", version)
    role = str(info.get("role", "unknown"))
    if role != "master":
        yield red("role", f"{role}: it takes no messages", "let REDIS_URL name the primary, not a replica")
    else:
        yield green("role", "primary")


def _memory(info: Mapping[str, Any]) -> Iterator[Result]:
    policy, limit, used = str(info.get("maxmemory_policy")), int(info.get("maxmemory", 0)), int(info["used_memory"])
    mend = f"set maxmemory-policy to noeviction, {_PROVIDER}"
    if policy == "noeviction":
        yield green("eviction", "noeviction")
    elif policy.startswith("allkeys-") and limit:
        yield red("eviction", f"{policy}: a full Redis throws the queue away", mend)
    else:
        yield amber("eviction", f"{policy}: a full Redis may throw hints away", mend)
    share = used / limit if limit else 0.0
    found = f"{used // 1_000_000} MB of {limit // 1_000_000} MB" if limit else f"{used // 1_000_000} MB, no bound"
    mend = "give Redis more memory, and see why the queue is not worked off"
    if share >= _NEARLY_FULL:
        yield (red if share >= _FULL else amber)("memory", f"{found} ({share:.0%})", mend)
    else:
        yield green("memory", found)


def _persistence(info: Mapping[str, Any]) -> Iterator[Result]:
    if int(info.get("aof_enabled", 0)):
        yield green("persistence", "append-only file")
    else:
        mend = f"set appendonly yes, {_PROVIDER}; until then the sweep finds what a restart loses"
        yield amber("persistence", "no append-only file: a restart loses the queue", mend)


def _clock(client: Redis) -> Iterator[Result]:
    try:
        seconds, microseconds = client.time()
    except ResponseError:
        yield skipped("clock", "the user of REDIS_URL may not ask for TIME")
    else:
        yield judge_skew("clock", time() - seconds - microseconds / 1e6)


def _use(client: Redis) -> Iterator[Result]:
    """Look at what waits, who waits for it, and whether a sweep ran."""
    try:
        depths = {name: int(client.llen(KEY_PREFIX + name)) for name in (ARCHIVE_QUEUE, DELETE_QUEUE, SWEEP_QUEUE)}
        taken = int(client.hlen(f"{KEY_PREFIX}unacked"))
        remembered_s = int(client.ttl(f"{KEY_PREFIX}chore:{CHORE}"))
    except ResponseError as error:
        mend = f"give the user of REDIS_URL leave for all commands on keys {KEY_PREFIX}*"
        yield red("queue", f"Redis answers {_code(error)}", mend)
        return
    found = ", ".join(f"{depth} in {name}" for name, depth in depths.items()) + f", {taken} in work"
    if max(depths.values()) >= MAX_QUEUE_DEPTH:
        yield amber("queue", found, "start more workers, or raise CELERY_CONCURRENCY")
    else:
        yield green("queue", found)
    yield _consumers(client, sum(depths.values()), taken)
    if 0 <= remembered_s <= DAY_S:
        yield green("beat", f"the last sweep was {timedelta(seconds=DAY_S - remembered_s)} ago")
    else:
        mend = "start beat, or run archiver sweep from cron; a beat that was just started is seen here after its sweep"
        yield amber("beat", "no sweep was seen within the last day", mend)


def _consumers(client: Redis, waiting: int, taken: int) -> Result:
    """Count who waits for messages: kombu does so with BRPOP. A worker whose threads are all busy does not wait."""
    database = str(client.connection_pool.connection_kwargs.get("db", 0))
    try:
        clients = client.client_list()
    except ResponseError:
        return skipped("worker", "the user of REDIS_URL may not ask for CLIENT LIST")
    consumers = sum(each.get("cmd", "").lower() == "brpop" and each.get("db") == database for each in clients)
    if consumers:
        return green("worker", f"{consumers} waiting for messages")
    if taken:
        return green("worker", f"none waits, but {taken} messages are in work")
    found = "nobody takes messages from the queue" + (f", {waiting} wait" if waiting else "")
    return amber("worker", found, "start worker with the same REDIS_URL (heroku ps:scale worker=1)")


def _code(error: RedisError) -> str:
    """Return an error's first words, which are Redis's own and hold no value."""
    text = str(error)
    return "DB index is out of range" if "DB index" in text else text.split(" ")[0][:20]
