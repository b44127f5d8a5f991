"""What stores are called in log lines and findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniq import OmniQ


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("redis://cache:6379/1", "redis redis://cache:6379/1"),
        (
            "redis://:secret@cache/1?namespace=shop",
            "redis redis://:***@cache:6379/1 (namespace shop)",
        ),
        ("nats://a?namespace=shop", "nats nats://a:4222 (namespace shop)"),
        ("postgresql://u:secret@db/app", "postgres postgresql://u@db/app"),
        (
            "postgresql://u:secret@db/app?schema=jobs&namespace=shop",
            "postgres postgresql://u@db/app (schema jobs, namespace shop)",
        ),
    ],
)
def test_two_applications_that_share_a_server_are_told_apart(url: str, label: str) -> None:
    """By what differs from the usual, and never with a password."""
    app = OmniQ(url)

    assert {component.store_name for component in (app.task_queue, app.result_storage)} == {label}


def test_a_namespace_in_a_file_is_told(tmp_path: Path) -> None:
    """Two applications may share a SQLite file, too."""
    app = OmniQ(f"sqlite:///{tmp_path}/q.db?namespace=shop")

    assert app.event_storage.store_name == f"sqlite {tmp_path}/q.db (namespace shop)"
