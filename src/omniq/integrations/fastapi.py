"""FastAPI: a queue that opens and closes with the application, and comes to routes as a dependency.

q = OmniQ("postgresql://…")
app = FastAPI(lifespan=lifespan(q))

@app.post("/signup")
async def signup(address: str, queue: Queue) -> dict[str, str]:
    handle = await queue.enqueue(send_mail, address)
    return {"task": handle.id}
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from omniq.core import OmniQ
from omniq.integrations.starlette import lifespan, queue_of

__all__ = ["Queue", "lifespan", "queue_of"]

Queue = Annotated[OmniQ, Depends(queue_of)]
"""The type of a route's argument that is to be the application's queue."""
