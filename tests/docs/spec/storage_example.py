import asyncio
from omniq.results import SQLiteResultStorage
from omniq.events import FileEventStorage
from omniq.models.event import TaskEvent
from datetime import datetime

async def demonstrate_storage():
    # Initialize result storage
    result_store = SQLiteResultStorage(database_path="my_results.db")
    await result_store.connect() # Connect if necessary

    # Store a result
    task_id = "task_123"
    result_data = {"status": "completed", "value": 42}
    await result_store.store_result(task_id, result_data)
    print(f"Stored result for {task_id}")

    # Retrieve a result
    retrieved_result = await result_store.get_result(task_id)
    print(f"Retrieved result for {task_id}: {retrieved_result}")

    # Initialize event storage
    event_store = FileEventStorage(base_dir="./my_events_log")
    await event_store.connect() # Connect if necessary

    # Log an event
    event = TaskEvent(task_id=task_id, event_type="STARTED", timestamp=datetime.utcnow(), details={"worker": "worker-A"})
    await event_store.log_event(event)
    print(f"Logged event for {task_id}")

    # Retrieve events for a task
    events_for_task = await event_store.get_events(task_id)
    for evt in events_for_task:
        print(f"  Event: {evt.event_type} at {evt.timestamp}")
    
    await result_store.disconnect() # Disconnect if necessary
    await event_store.disconnect() # Disconnect if necessary

if __name__ == "__main__":
    asyncio.run(demonstrate_storage())
