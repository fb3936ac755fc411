"""A cluster as the runner sees it: a client that comes back, slots, hosts, and someone who tends the workers.

Dask does not put back what was lost: a client gives up its scheduler after a while, a nanny that is slow to restart its
worker is dropped for good. `tend`, called every few seconds, does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from farfield.errors import CampaignInterrupted

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

__all__ = ["Cluster", "Local", "Remote", "host_of"]

FACTS_SECONDS, FACTS_SHARE = 1.0, 0.02
"""How long what the scheduler said of its workers is believed at least, and the share of the time that asking may take:
of thousands of workers it says much."""
FACTS_LONGEST = 10.0
"""How long it is believed at most: one slow answer must not blind us to workers that come."""
BARREN_SECONDS = 90.0
"""How long a local cluster may be without any worker."""


HANGING_SECONDS = 30.0
"""A client that has not come back to its scheduler for so long is given up: some of its faults leave it as it was."""
NO_CLIENT = (OSError, TypeError, ValueError, RuntimeError, TimeoutError)
"""What making or closing a client may end in while its scheduler is away."""
NO_ANSWER = (OSError, RuntimeError, TimeoutError, KeyError, UnboundLocalError)
"""What a question to the scheduler may end in; the last is what Dask's `sync` makes of a cancellation."""


class Cluster:
    """Wraps a client on any cluster. `resources`: what every call asks of its worker, as Dask resources.

    Methods never raise because the scheduler is away: there are no slots then. `connect` makes a new client where the
    old one has given up, which happens to one of a scheduler in this very process too, when the host is overrun.
    `apart`: a worker's nanny lives beside it, and may die with it. `reruns`: Dask itself runs a call again whose worker
    died.
    """

    apart = True
    reruns = False

    def __init__(
        self,
        client: Client,
        resources: Mapping[str, float] | None = None,
        connect: Callable[[], Client] | None = None,
    ) -> None:
        self.client, self._connect = client, connect
        self.resources = dict(resources or {})
        self._facts: tuple[float, dict[str, Any]] = (float("-inf"), {})  # until when they hold
        self._scheduler: str | None = None  # its own name, another after each start
        self._had_workers = True
        self._away_since: float | None = None

    @property
    def connected(self) -> bool:
        """Whether the client stands in connection with its scheduler."""
        return bool(self.client.status == "running")

    @property
    def dashboard(self) -> str | None:
        """Link to Dask's own dashboard, where the scheduler serves one."""
        try:
            return str(self.client.dashboard_link) if self.connected else None
        except (AttributeError, KeyError, OSError, RuntimeError):
            return None

    def workers(self) -> dict[str, dict[str, Any]]:
        """Address -> what the scheduler knows of each worker; empty while it is away."""
        end, known = self._facts
        if not self.connected:
            self._facts = (float("-inf"), {})
            return {}
        if (began := time.monotonic()) > end:
            try:
                told = self.client.scheduler_info(n_workers=-1)
                known, self._scheduler = dict(told["workers"]), str(told["id"])
            except NO_ANSWER:
                return {}
            took = time.monotonic() - began
            held = min(max(FACTS_SECONDS, took / FACTS_SHARE), FACTS_LONGEST) if known else FACTS_SECONDS
            self._facts = (began + took + held, known)
        return known

    def slots(self) -> int:
        """How many calls can run at a time; none while the scheduler is away, else at least one."""
        if not self.connected:
            return 0
        return max(1, sum(int(w["nthreads"]) for w in self.workers().values()))

    def processing(self) -> dict[str, tuple[str, ...]]:
        """Worker -> keys of the tasks that Dask has sent there and that have not come back."""
        if not self.connected:
            return {}
        try:
            return {worker: tuple(map(str, keys)) for worker, keys in self.client.processing().items()}
        except NO_ANSWER:
            return {}

    def gone(self, worker: str) -> None:
        """It is known to be dead before the scheduler is asked again."""
        self._facts[1].pop(worker, None)

    def others(self, avoided: Collection[str]) -> list[str]:
        """The workers that are neither `avoided` nor on such a host; none where nothing is avoided, or all are."""
        return [w for w in self.workers() if w not in avoided and host_of(w) not in avoided] if avoided else []

    def submit(
        self, task: Callable[..., Any], order: Any, key: str, bound: Sequence[str] = (), priority: float = 0.0
    ) -> Future[Any] | None:
        """`task(order)` on a worker that has the resources, one of `bound` where any are named; None while the
        scheduler is away. The higher `priority`, the sooner it starts."""
        from distributed.client import ClosedClientError

        # with other workers allowed an idle one that is avoided would steal it
        where: dict[str, Any] = {"workers": list(bound), "allow_other_workers": False} if bound else {}
        options: dict[str, Any] = {"resources": self.resources or None, "priority": priority, **where}
        try:
            return self.client.submit(task, order, key=key, pure=False, retries=0, **options)
        except ClosedClientError:
            return None

    def forget(self, future: Future[Any]) -> None:
        """Have Dask drop a task; a scheduler that is away has dropped it already."""
        from distributed.client import ClosedClientError

        with suppress(ClosedClientError, OSError, RuntimeError, TimeoutError):
            future.cancel()

    def tend(self) -> list[str]:
        """Put back what was lost; what people should know of it. Raises CampaignInterrupted where that is hopeless."""
        self._renew()
        if not self.connected:
            return []
        workers, had = bool(self.workers()), self._had_workers
        self._had_workers = workers
        if had and not workers:
            return ["there are no workers; calls wait for them"]
        return ["there are workers again"] if workers and not had else []

    def _renew(self) -> None:
        """A new client where the old one has given up, or hangs in an attempt to come back."""
        if self.connected:
            self._away_since = None
            return
        now = time.monotonic()
        self._away_since = now if self._away_since is None else self._away_since
        if self._connect is not None and (self.client.status == "closed" or now - self._away_since > HANGING_SECONDS):
            with suppress(*NO_CLIENT):  # away still: look again soon
                old, self.client = self.client, self._connect()
                self._away_since, self._facts = None, (float("-inf"), {})
                old.close(timeout=1)


class Remote(Cluster):
    """A scheduler that somebody else runs. It may go and come back; then a new client is made, by `connect`."""

    def __init__(
        self, client: Client, address: str, connect: Callable[[], Client], resources: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(client, resources, connect)
        self.address = address
        self._away = False
        self._known: str | None = None

    def tend(self) -> list[str]:
        """Say when the scheduler goes and comes, or came back anew between two looks."""
        said = super().tend()
        before, self._known = self._known, self._scheduler
        if self.connected != self._away:
            if before not in (None, self._known):
                said.insert(0, f"the scheduler at {self.address} was started anew and answers again")
            return said
        self._away = not self.connected
        if self._away:
            return [f"the scheduler at {self.address} is away; the campaign waits for it"]
        return [f"the scheduler at {self.address} answers again", *said]


class Local(Cluster):
    """Worker processes of our own on this host, under nannies in this process."""

    apart = False

    def __init__(
        self,
        client: Client,
        cluster: LocalCluster,
        count: int,
        resources: Mapping[str, float] | None = None,
        connect: Callable[[], Client] | None = None,
    ) -> None:
        super().__init__(client, resources, connect)
        self.cluster, self.count = cluster, count
        self._barren: float | None = None

    def tend(self) -> list[str]:
        """New workers in place of those that did not come back."""
        self.cluster.scale(self.count)
        if self.workers():
            self._barren = None
        elif self._barren is None:
            self._barren = time.monotonic()
        elif time.monotonic() - self._barren > BARREN_SECONDS:
            raise CampaignInterrupted(
                f"the local cluster has had no worker for {BARREN_SECONDS:.0f} s: they cannot start (is farfield still "
                "installed, is there memory?); mend that, then `farfield run` goes on"
            )
        return super().tend()


def host_of(address: str) -> str:
    """The host in a worker's address, tls://10.0.0.7:4711."""
    return urlsplit(address).hostname or address
