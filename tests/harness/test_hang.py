"""What is told of a test that hangs."""

import trio

from tests.harness.hang import describe_tasks


async def test_it_tells_what_every_task_waits_for(nursery: trio.Nursery) -> None:
    async def wait_in_vain(event: trio.Event) -> None:
        await event.wait()

    nursery.start_soon(wait_in_vain, trio.Event(), name="the one that hangs")
    await trio.testing.wait_all_tasks_blocked()
    lines = [*describe_tasks()]
    place = lines.index("the one that hangs:")
    assert lines[place + 1].endswith(f"{wait_in_vain.__qualname__}")
    assert lines[place + 2].endswith("Event.wait")
