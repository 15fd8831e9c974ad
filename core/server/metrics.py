"""GET /metrics: how the server does, for Prometheus.  Each application counts in a registry of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .board import Board

if TYPE_CHECKING:
    from .office import Office

Event = Mapping[str, Any]

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)  # of nodes: from a text to a training run
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NOWHERE = "none"  # the route of a request that leads nowhere: its path is anybody's invention

routes = web.RouteTableDef()


class Metrics:
    """What is counted."""

    def __init__(self, office: Office, board: Board) -> None:
        self.registry = CollectorRegistry()
        self._board = board
        self._jobs = Counter("limner_jobs", "Jobs that have ended, by how.", ["state"], registry=self.registry)
        self._nodes = Counter("limner_nodes", "Nodes that were executed or cached.", ["status"], registry=self.registry)
        self._seconds = Histogram(
            "limner_node_seconds",
            "Seconds that nodes took, by type.",
            ["type"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._requests = Counter(
            "limner_http_requests",
            "Requests answered, by method, route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.registry.register(_Now(office))

    def hear(self, event: Event) -> None:
        """Count what an event tells.  Asked before the board forgets the job."""
        match event["event"]:
            case "finished":
                self._jobs.labels(event["state"]).inc()
            case "cached":
                self._nodes.labels("cached").inc(len(event["nodes"]))
            case "node_finished" if event["status"] == "executed":
                self._nodes.labels("executed").inc()
                going = self._board.of(event["job"])
                kind = going.types.get(event["display"]) if going else None
                if kind is not None:
                    self._seconds.labels(kind).observe(event["seconds"])

    def answered(self, request: web.Request, status: int) -> None:
        """Count a request."""
        resource = request.match_info.route.resource
        route = NOWHERE if resource is None else resource.canonical
        method = request.method if request.method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()


class _Now(Collector):
    """What is looked up when somebody asks."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def collect(self) -> Iterator[Metric]:
        queue, cache = self._office.dispatcher.queue, self._office.host.cache
        jobs = GaugeMetricFamily("limner_queue_jobs", "Jobs that wait or run.", labels=["state"])
        counts = queue.counts()
        for state in ("pending", "running"):
            jobs.add_metric([state], counts.get(state, 0))
        yield jobs
        room = GaugeMetricFamily("limner_cache_bytes", "Bytes of results that are kept.", labels=["tier"])
        room.add_metric(["memory"], cache.bytes)
        if cache.store is not None:
            room.add_metric(["disk"], cache.store.info()["bytes"])
        yield room
        alive = self._office.dispatcher.alive
        yield GaugeMetricFamily("limner_worker_alive", "1 while jobs can run.", value=int(alive))


METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Everything that is counted, in the format that the client's Accept header asks for."""
    encode, kind = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(request.app[METRICS].registry), headers={"Content-Type": kind})


@web.middleware
async def counted(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Count every request, whatever comes of it."""
    status = 500
    try:
        response = await handler(request)
        status = response.status
    except web.HTTPException as error:
        status = error.status
        raise
    else:
        return response
    finally:
        request.app[METRICS].answered(request, status)
