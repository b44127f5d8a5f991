"""A web application that enqueues what the workers run: `uvicorn web:app`."""

from fastapi import FastAPI, HTTPException
from jobs import greet, q

from omniq.integrations.fastapi import Queue, lifespan

app = FastAPI(lifespan=lifespan(q))


@app.post("/greet")
async def ask(name: str) -> dict[str, str]:
    handle = await greet.enqueue(name)
    return {"task": handle.id}


@app.get("/tasks/{task_id}")
async def state(task_id: str, queue: Queue) -> dict[str, str]:
    task = await queue.get_task(task_id)
    if task is None:
        raise HTTPException(404)
    return {"status": task.status.value}


@app.get("/healthz")
async def healthz(queue: Queue) -> dict[str, bool]:
    """Ready when the store answers."""
    await queue.paused_queues()
    return {"ready": True}
