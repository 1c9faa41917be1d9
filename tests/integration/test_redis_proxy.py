"""The Redis proxy changes nothing, tells what was asked, and can end an exchange on either side of Redis."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from deploy.local.processes import wait_until
from deploy.local.redis_proxy import Exchange, Point, RedisProxy
from deploy.local.s3_proxy import DropError
from deploy.local.servers import RedisServer


@contextmanager
def watched(
    server: RedisServer, watch: Callable[[Exchange, Point], None], *, protocol: int = 3
) -> Iterator[redis.Redis]:
    """Yield a client of a proxy; it tries once."""
    with (
        RedisProxy(server.port, watch) as proxy,
        redis.Redis.from_url(proxy.url(7), protocol=protocol, retry=None, decode_responses=True) as client,
    ):
        yield client


@pytest.mark.parametrize("protocol", [2, 3])
def test_nothing_is_changed(redis_server: RedisServer, protocol: int) -> None:
    """Values of every type, of any size, transactions, scripts and errors pass as they are."""
    large = "x" * 1_000_000
    with watched(redis_server, lambda exchange, point: None, protocol=protocol) as client:
        client.flushdb()
        client.set("large", large)
        assert client.get("large") == large
        client.hset("hash", mapping={"a": "1", "b": ""})
        assert client.hgetall("hash") == {"a": "1", "b": ""}
        client.zadd("sorted", {"one": 1.5})
        assert client.zrange("sorted", 0, -1, withscores=True) in ([("one", 1.5)], [["one", 1.5]])
        with client.pipeline() as pipeline:
            assert pipeline.llen("none").sadd("set", "a").smembers("set").execute() == [0, 1, {"a"}]
        assert client.eval("return {1, 'two', {}}", 0) == [1, "two", []]
        assert client.get("nothing") is None
        with pytest.raises(redis.ResponseError, match="wrong kind"):
            client.incr("hash")


def test_every_exchange_is_shown_three_times(redis_server: RedisServer) -> None:
    """A watcher sees the commands before they are carried out, then the replies, then that they were sent."""
    seen: list[tuple[str, Point, bytes]] = []

    def watch(exchange: Exchange, point: Point) -> None:
        seen.append((exchange.name, point, exchange.replies))

    with watched(redis_server, watch) as client:
        client.ping()
        wait_until(lambda: seen[-1][:2] == ("PING", "sent"), timeout_s=20, what="the end of the ping")
        seen.clear()
        with client.pipeline() as pipeline:
            pipeline.delete("list").lpush("list", "word").execute()
        wait_until(lambda: len(seen) == 3, timeout_s=20, what="the last word")
    assert [(name, point) for name, point, _ in seen] == [
        ("MULTI DEL LPUSH EXEC", point) for point in ("before", "after", "sent")
    ]
    assert seen[0][2] == b""
    assert seen[1][2].startswith(b"+OK\r\n+QUEUED\r\n")


@pytest.mark.parametrize(("point", "carried_out"), [("before", False), ("after", True)])
def test_a_dropped_exchange(redis_server: RedisServer, point: Point, carried_out: bool) -> None:
    """Dropped before, Redis never hears of it; dropped after, only the answer is lost."""

    def watch(exchange: Exchange, now: Point) -> None:
        if exchange.name == "LPUSH" and now == point:
            raise DropError

    with watched(redis_server, watch) as client:
        client.delete("list")
        with pytest.raises(redis.ConnectionError):
            client.lpush("list", "word")
    with redis_server.client(7) as direct:
        assert direct.llen("list") == carried_out


def test_a_client_that_leaves_takes_nothing_along(redis_server: RedisServer) -> None:
    """Who waits for a message and goes away is not handed the next one."""
    waiting: list[str] = []
    with watched(redis_server, lambda exchange, point: waiting.append(exchange.name)) as client:
        client.delete("list")
        connection = client.connection_pool.get_connection()
        connection.send_command("BRPOP", "list", 30)
        wait_until(lambda: "BRPOP" in waiting, timeout_s=20, what="the waiting client")
        connection.disconnect()
        with redis_server.client(7) as direct:
            wait_until(
                lambda: not any(each["cmd"] == "brpop" and each["db"] == "7" for each in direct.client_list()),
                timeout_s=20,
                what="its end",
            )
            direct.lpush("list", "word")
            assert direct.lrange("list", 0, -1) == ["word"]
