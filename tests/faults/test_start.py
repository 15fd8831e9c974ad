"""The start of a server: what is done before the first job, and what beside it."""

import asyncio
import threading

from limner.core.server import own
from serving import serving


def test_sources_are_read_before_there_are_jobs_and_in_one_thread(tmp_path, monkeypatch):
    """Python before 3.11.8 fails where two threads parse sources at once, which the first job does too."""
    done = []
    monkeypatch.setattr(own, "warm", lambda host: done.append(threading.current_thread()))

    async def scenario():
        async with serving(tmp_path):
            assert done == [threading.main_thread()]

    asyncio.run(scenario())
