"""`import omniq`: all public names, at next to no cost."""

import subprocess
import sys
from pathlib import Path

import pytest

import omniq


class TestPackage:
    """`import omniq`."""

    def test_every_public_name_is_there(self) -> None:
        """Listed once for people, once for type checkers, once for the import."""
        homes = vars(omniq)["_HOMES"]

        assert sorted(omniq.__all__) == sorted(homes)
        assert all(getattr(omniq, name) is not None for name in omniq.__all__)
        assert set(omniq.__all__) <= set(dir(omniq))

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        """As of any module."""
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            _ = omniq.nonsense  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType] - the point

    def test_the_version_is_that_of_the_distribution(self) -> None:
        """Looked up when asked for."""
        assert omniq.__version__

    @pytest.mark.parametrize(
        ("statement", "unwanted"),
        [
            ("import omniq", "asyncio msgspec anyio sqlite3 cyclopts rich omniq.core"),
            (
                "from omniq import OmniQ; OmniQ",
                "anyio sqlite3 cyclopts rich fsspec asyncpg redis nats",
            ),
            (
                "from omniq import OmniQ; OmniQ('memory://')",
                "anyio sqlite3 cyclopts rich omniq.worker",
            ),
        ],
    )
    def test_importing_loads_only_what_is_used(
        self, statement: str, unwanted: str, tmp_path: Path
    ) -> None:
        """Start-up time is paid by every command and every worker."""
        source = (
            f"{statement}; import sys; print([n for n in {unwanted.split()} if n in sys.modules])"
        )

        done = subprocess.run(
            [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=True
        )

        assert done.stdout.strip() == "[]"
