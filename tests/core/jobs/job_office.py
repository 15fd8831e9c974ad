"""A dispatcher with all that it needs, for tests; and the backends that it may have."""

import asyncio

PATIENCE = 60  # seconds, after which a test has gone wrong


class Kept:
    """A backend that many dispatchers use, one after the other: processes that have loaded torch are dear."""

    def __init__(self, backend):
        self.backend = backend
        self.emit = None

    async def start(self, emit):
        first, self.emit = self.emit is None, emit
        if first:
            await self.backend.start(self.say)

    def say(self, event):
        self.emit(event)

    async def close(self):
        self.emit = lambda event: None

    def __getattr__(self, name):
        return getattr(self.backend, name)


class Office:
    """A dispatcher with all that it needs, and ways to wait for what it says."""

    def __init__(self, folder, backend, runner, **options):
        from limner.core.jobs.dispatcher import Dispatcher
        from limner.core.jobs.events import Events
        from limner.core.jobs.queue import Queue
        from limner.core.jobs.timings import Timings

        self.folder, self.backend, self.runner = folder, backend, runner
        self.queue = Queue(folder / "limner.db")
        self.events = Events(folder / "events.db")
        self.heard = []
        self.events.listen(self.heard.append)
        self.dispatcher = Dispatcher(self.queue, self.events, backend, Timings(), **options)

    def run(self, coroutine):
        async def soon():
            async with asyncio.timeout(PATIENCE):
                return await coroutine

        return self.runner.run(soon())

    def submit(self, graph, *, targets=None, **options):
        """Submit nodes as `"id": ("Toy", inputs)`; the last one is the target."""
        kinds = {i: kind if "." in kind else f"toy.{kind}" for i, (kind, _) in graph.items()}
        prompt = {i: {"class_type": kinds[i], "inputs": inputs} for i, (_, inputs) in graph.items()}
        return self.dispatcher.submit(prompt=prompt, targets=targets or list(graph)[-1:], **options).id

    async def until(self, condition):
        while not condition():
            await asyncio.sleep(0.005)

    async def seen(self, name, job, after=0, **more):
        """Wait for an event of a job."""
        async for event in self.events.follow(after, job):
            if event["event"] == name and more.items() <= event.items():
                return event
        raise AssertionError("the log was closed")

    async def end(self, job):
        """Wait for the end of a job; the job."""
        await self.seen("finished", job)
        return self.queue.get(job)

    def told(self, job):
        """The names of a job's events, in order."""
        return [event["event"] for event in self.heard if event["job"] == job]

    async def close(self):
        await self.dispatcher.close()
        self.events.close()
        self.queue.close()


def denoising(folder, **inputs):
    """A graph that has a network called."""
    model = ("limner.LoadUnet", {"name": "tiny.safetensors"})
    return {"unet": model, "1": ("Denoise", {"model": ["unet", 0], "folder": str(folder), **inputs})}


def the_backend(kind, base, **options):
    import job_toys
    from limner.core.jobs import telling
    from limner.core.jobs.inprocess import InProcess
    from limner.core.jobs.subprocesses import Setup, Subprocesses

    settings = {"base": str(base)}
    if kind == "thread":
        backend = InProcess(lambda: job_toys.host(settings, send), device="cpu", **options)

        def send(kind, data, to):
            backend.tell(telling.of_pack(kind, data, to))

        return backend
    return Subprocesses([Setup("cpu", settings, "job_toys:host")], **options)
