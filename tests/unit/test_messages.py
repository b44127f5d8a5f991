"""What messages say, whatever names are put into them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import omniq
from omniq.datastore.values import serialize
from omniq.exceptions import SerializationError

SOURCES = sorted(Path(omniq.__file__).parent.rglob("*.py"))


def articles_before_names(source: str) -> Iterator[int]:
    """Yield the lines of f-strings that put a name behind `a` or `an`."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for text, name in zip(node.values, node.values[1:], strict=False):
            said = text.value if isinstance(text, ast.Constant) else ""
            if isinstance(name, ast.FormattedValue) and re.search(r"\b[Aa]n? ['`]?$", str(said)):
                yield node.lineno


def test_no_message_puts_an_article_before_a_name_it_does_not_know() -> None:
    """`is a int` and `is an Queue` read as if nobody had looked."""
    found = [
        f"{path.name}:{line}"
        for path in SOURCES
        for line in articles_before_names(path.read_text())
    ]

    assert found == []
    assert list(articles_before_names('f"it is an {kind}"')) == [1]


@pytest.mark.parametrize("key", [1, None, 2.5])
def test_a_key_of_another_type_is_told_in_good_english(key: object) -> None:
    """Whatever the type is called."""
    with pytest.raises(SerializationError, match=rf"is of type {type(key).__name__}$"):
        serialize({key: 1})
