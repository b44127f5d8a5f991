"""The application the files in this folder run: `jobs:q`. Put your own in its place."""

from omniq import OmniQ

q = OmniQ()  # where OMNIQ_URL says


@q.task(max_retries=3, timeout=30)
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@q.cron("0 4 * * *")
async def tidy() -> None:
    """Something to do every night."""
