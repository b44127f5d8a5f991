"""URLs of servers as people paste them: passwords with anything in them, ports that are none."""

from __future__ import annotations

import pytest

from omniq import OmniQ
from omniq.datastore import DataStore
from omniq.exceptions import ConfigError
from omniq.models.config import OmniQConfig
from omniq.models.masking import masked
from omniq.models.server_urls import readable

SCHEMES = ("postgresql", "redis", "nats")
AMBIGUOUS = {
    "slash": "HID/DEN",
    "question mark": "HID?DEN",
    "hash": "HID#DEN",
    "digits first": "12/HIDDEN",
    "an at, too": "HID/D@EN",
    "an option's name": "12?HIDDEN",
}
CLEAR = {
    "at": "HID@DEN",
    "bracket": "HID[DEN",
    "blank": "HID DEN",
    "colon": "HID:DEN",
    "quote": 'H"',
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("password", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_password_that_hides_the_host_is_refused_and_never_shown(
    scheme: str, password: str
) -> None:
    """Where it ends is a guess, and the message goes to logs: it holds no piece of it."""
    url = f"{scheme}://app:{password}@db.example:1/0"
    config = {"task_queue_backend": {"url": url, "config": {"namespace": "x"}}}

    for make in (lambda: OmniQ(url), lambda: OmniQ(config=OmniQConfig.from_dict(config))):
        with pytest.raises(ConfigError, match="is written %2F %3F %23 %40") as caught:
            make()
        told = str(caught.value) + masked(url)
        assert "HID" not in told
        assert "DEN" not in told


def test_the_data_store_refuses_it_too() -> None:
    """It takes the same URLs as the queue on Redis."""
    with pytest.raises(ConfigError, match="is written %2F"):
        DataStore(url="redis://app:HID/DEN@db.example:1/0")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("password", CLEAR.values(), ids=CLEAR)
def test_a_password_whose_end_is_clear_is_taken_as_it_is(scheme: str, password: str) -> None:
    """The last @ before the first slash ends it, on every server alike."""
    app = OmniQ(f"{scheme}://app:{password}@db.example:1")

    assert "db.example:1" in repr(app)
    assert password not in repr(app)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h:1/d?direct_dsn=postgresql://u:p@h:2/d",
        "redis://h:1/0?namespace=a",
        "nats://a:1,b:2?user=me@example.org",
        "postgresql://[::1]:5432/d",
        "redis://u:%2F%40@h",
        "postgresql://%2Fvar%2Frun/d?user=a@b",
    ],
)
def test_what_can_be_read_is_left_alone(url: str) -> None:
    """An @ may stand in an option, and what is encoded is not encoded again."""
    assert readable(url, "test") == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h:99999/d",
        "postgresql://h:x/d",
        "postgresql://a:1,b:x/d",
        "postgresql://h/d?port=x",
        "postgresql://[::1/d",
        "postgresql://app:HIDDEN/d",
        "postgresql://h/d?direct_dsn=postgresql://h:x/d",
    ],
)
def test_a_malformed_address_of_postgresql_is_one_error_of_ours(url: str) -> None:
    """The driver would raise whatever its parser trips over, at the first connection."""
    with pytest.raises(ConfigError, match="the PostgreSQL URL cannot be read") as caught:
        OmniQ(url)

    assert "HIDDEN" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://h/x", "the db of a Redis URL is a number, not 'x'"),
        ("mysql://h/x", "there is no backend type 'mysql'"),
        ("nats://h?nosuch=1", "a NATS URL has no option 'nosuch'"),
        ("sqlite:///x.db?durability=hard", "durability is one of full, fast, not 'hard'"),
        (
            "file://./x?compression=lz4",
            "Invalid enum value 'lz4'; valid are none, zlib",
        ),
        ("s3://jobs/x?tree=perhaps", "tree: Expected `bool`, got `str`"),
    ],
)
def test_one_mistake_in_the_one_url_is_told_once(url: str, problem: str) -> None:
    """Not four times, once for each component that is kept there."""
    with pytest.raises(ConfigError) as caught:
        OmniQ(url)

    assert str(caught.value).count(problem) == 1
    assert str(caught.value).startswith("url: ")


def test_an_empty_url_is_refused() -> None:
    """It comes from a variable that is unset; the tasks would go to ./omniq.db instead."""
    with pytest.raises(ConfigError, match=r"the URL is empty; is the variable .* unset\?"):
        OmniQ("")
