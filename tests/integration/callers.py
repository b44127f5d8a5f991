"""Callers' connections of every kind, with one face: an open transaction to enqueue in."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiosqlite
import asyncpg
import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, create_async_engine
from sqlalchemy.ext.asyncio import async_sessionmaker as async_maker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from omniq import Task
from omniq.core import OmniQ
from omniq.handle import TaskHandle


class Unit:
    """A transaction that is about to begin, with coroutines."""

    def __init__(self, connection: Any, commit: Any, rollback: Any) -> None:
        self.connection = connection
        self._commit, self._rollback = commit, rollback

    async def enqueue(self, app: OmniQ, *tasks: Task) -> list[TaskHandle[Any]]:
        return await app.enqueue_tasks(tasks, connection=self.connection)

    async def commit(self) -> None:
        await self._commit()

    async def rollback(self) -> None:
        await self._rollback()


class SyncUnit(Unit):
    """The same of a connection that blocks: all in one thread."""

    def __init__(self, thread: ThreadPoolExecutor, *parts: Any) -> None:
        super().__init__(*parts)
        self._thread = thread

    async def run(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def enqueue(self, app: OmniQ, *tasks: Task) -> list[TaskHandle[Any]]:
        return await self.run(lambda: app.enqueue_tasks_sync(tasks, connection=self.connection))

    async def commit(self) -> None:
        await self.run(self._commit)

    async def rollback(self) -> None:
        await self.run(self._rollback)


Open = Callable[[str], AbstractAsyncContextManager[Unit]]


@asynccontextmanager
async def _asyncpg(url: str) -> AsyncGenerator[Unit]:
    connection = await asyncpg.connect(url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        yield Unit(connection, transaction.commit, transaction.rollback)
    finally:
        await connection.close()


@asynccontextmanager
async def _asyncpg_pool(url: str) -> AsyncGenerator[Unit]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as taken:
        transaction = taken.transaction()
        await transaction.start()
        yield Unit(taken, transaction.commit, transaction.rollback)


@asynccontextmanager
async def _psycopg_async(url: str) -> AsyncGenerator[Unit]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield Unit(connection, connection.commit, connection.rollback)


@asynccontextmanager
async def _aiosqlite(path: str) -> AsyncGenerator[Unit]:
    async with aiosqlite.connect(path) as connection:
        yield Unit(connection, connection.commit, connection.rollback)


def _sync(make: Callable[[str], Any]) -> Open:
    """Return what opens a connection that blocks, in a thread of its own."""

    @asynccontextmanager
    async def run(url: str) -> AsyncGenerator[Unit]:
        with ThreadPoolExecutor(1) as thread:
            connection: Any = await asyncio.wrap_future(thread.submit(make, url))
            try:
                yield SyncUnit(thread, connection, connection.commit, connection.rollback)
            finally:
                await asyncio.wrap_future(thread.submit(connection.close))

    return run


def _engine(what: Callable[[Any], Any], scheme: str) -> Open:
    """Return what opens a session or connection of SQLAlchemy that blocks."""

    @asynccontextmanager
    async def run(url: str) -> AsyncGenerator[Unit]:
        engine = create_engine(_dialect(url, scheme))
        async with _sync(lambda _: what(engine))(url) as unit:
            yield unit
        engine.dispose()

    return run


def _async_engine(what: Callable[[Any], Any], scheme: str) -> Open:
    @asynccontextmanager
    async def run(url: str) -> AsyncGenerator[Unit]:
        engine = create_async_engine(_dialect(url, scheme))
        given: Any = what(engine)
        if inspect.iscoroutine(given):
            given = await given
        try:
            yield Unit(given, given.commit, given.rollback)
        finally:
            await given.close()
            await engine.dispose()

    return run


def _dialect(url: str, scheme: str) -> str:
    if "://" in url:
        return url.replace("postgresql://", f"{scheme}://")
    return f"{scheme}:///{url}"


def _scoped(engine: Any) -> Any:
    return scoped_session(sessionmaker(engine))


def _async_scoped(engine: Any) -> Any:
    return async_scoped_session(async_maker(engine), asyncio.current_task)


async def _new(engine: Any) -> Any:
    return await engine.connect()


async def _begun(engine: Any) -> Any:
    """A connection that has been used before: its transaction has begun."""
    connection = await engine.connect()
    await connection.execute(text("SELECT 1"))
    return connection


POSTGRES: dict[str, Open] = {
    "asyncpg": _asyncpg,
    "asyncpg pool": _asyncpg_pool,
    "psycopg": _sync(psycopg.connect),
    "psycopg async": _psycopg_async,
    "Session over psycopg": _engine(Session, "postgresql+psycopg"),
    "scoped_session over psycopg": _engine(_scoped, "postgresql+psycopg"),
    "Connection over psycopg": _engine(lambda engine: engine.connect(), "postgresql+psycopg"),
    "AsyncSession over psycopg": _async_engine(AsyncSession, "postgresql+psycopg"),
    "AsyncSession over asyncpg": _async_engine(AsyncSession, "postgresql+asyncpg"),
    "async_scoped_session over asyncpg": _async_engine(_async_scoped, "postgresql+asyncpg"),
    "AsyncConnection over asyncpg": _async_engine(_new, "postgresql+asyncpg"),
    "AsyncConnection in use": _async_engine(_begun, "postgresql+asyncpg"),
}
SQLITE: dict[str, Open] = {
    "sqlite3": _sync(sqlite3.connect),
    "aiosqlite": _aiosqlite,
    "Session over sqlite3": _engine(Session, "sqlite"),
    "Connection over sqlite3": _engine(lambda engine: engine.connect(), "sqlite"),
    "AsyncSession over aiosqlite": _async_engine(AsyncSession, "sqlite+aiosqlite"),
    "AsyncConnection over aiosqlite": _async_engine(_begun, "sqlite+aiosqlite"),
}
