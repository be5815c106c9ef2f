"""A Dask cluster as a task runner: `distributed` executes the bodies, the driver process journals.

Rules:

1. What is executed is sent with cloudpickle, so functions of the script, closures and lambdas travel by value. Those of
   a module are found by name: workers need the same code and packages, durable among them.
2. Dask is asked not to retry. A worker that dies ends the attempt, and the task is tried again: within its retries, and
   beyond them as often as Dask itself would (``distributed.scheduler.allowed-failures``), because workers of a cluster
   come and go. A cluster that is not started here does so by its own setting first, unseen; so does any cluster with a
   result that was computed, and not fetched yet when its worker died. A task marked ``on_interrupt="fail"`` leaves a
   mark with the scheduler before its body begins, and is not executed where there is one.
3. The worker counts a body's time, and ends it as a thread's.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import CancelledError as FutureCancelled
from typing import TYPE_CHECKING, Any, Final

from durable.errors import ConfigurationError
from durable.runners.away import Reply, execute_packed, unpacked_reply
from durable.runners.byvalue import cloudpickled
from durable.runners.shipping import Lost, ShippingTaskRunner, Slots

if TYPE_CHECKING:
    from durable.call import Call

IN_FLIGHT: Final = 1000  # task runs handed to the scheduler at once: an adaptive cluster grows by what waits there


class DaskTaskRunner(ShippingTaskRunner):
    """Executes task runs on a Dask cluster. Names and arguments as in prefect-dask.

    Args:
        address: of a running scheduler, such as ``"tcp://10.0.0.1:8786"``.
        cluster: a running cluster object; it is left running.
        cluster_class: class (or its import path) of the cluster to start for each flow run, and to end with it;
            ``distributed.LocalCluster`` by default.
        cluster_kwargs: its arguments.
        adapt_kwargs: arguments of its ``adapt``, for a cluster that grows and shrinks.
        client_kwargs: further arguments of ``distributed.Client``.

    Raises:
        ConfigurationError: `distributed` is not installed, or arguments that exclude each other.
    """

    spares = 3
    dumps = staticmethod(cloudpickled)

    def __init__(
        self,
        address: str | None = None,
        cluster: Any = None,
        cluster_class: str | Callable[..., Any] | None = None,
        cluster_kwargs: dict[str, Any] | None = None,
        adapt_kwargs: dict[str, Any] | None = None,
        client_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if importlib.util.find_spec("distributed") is None:
            raise ConfigurationError(
                "DaskTaskRunner needs `distributed`, which is not installed: pip install 'durable-journal[dask]'"
            )
        if address is not None and (cluster is not None or cluster_class or cluster_kwargs or adapt_kwargs):
            raise ConfigurationError("DaskTaskRunner: `address` is of a cluster that runs; give no other with it")
        if cluster is not None and (cluster_class or cluster_kwargs):
            raise ConfigurationError(
                "DaskTaskRunner: `cluster` runs already; give no `cluster_class` or kwargs with it"
            )
        self.address = address
        self.cluster = cluster
        self.cluster_class = _imported(cluster_class) if isinstance(cluster_class, str) else cluster_class
        self.cluster_kwargs = dict(cluster_kwargs or {})
        self.adapt_kwargs = dict(adapt_kwargs or {})
        self.client_kwargs = dict(client_kwargs or {})
        self.slots = Slots(range(IN_FLIGHT))
        self._starting: Any = None
        self._own_cluster: Any = None
        self._client: Any = None

    def duplicate(self) -> DaskTaskRunner:
        """Another runner on the same cluster, or with one of its own."""
        return DaskTaskRunner(
            self.address,
            self.cluster,
            self.cluster_class,
            self.cluster_kwargs,
            self.adapt_kwargs,
            self.client_kwargs,
        )

    async def prepare(self, place: Any) -> str:
        """There is a client; the scheduler, which chooses the worker."""
        from asyncio import ensure_future, shield  # the loop is running, so this is a look-up

        del place
        if self._starting is None:
            self._starting = ensure_future(self._begin())
        await shield(self._starting)
        return f"dask {self._client.scheduler.address}"

    async def execute(self, place: Any, call: Call) -> Reply:
        """As in `ShippingTaskRunner`."""
        from distributed import Event, KilledWorker

        del place
        parcel = self.parcel(call).packed(self.dumps, by_value=True)
        # A key of its own: Dask must not take an earlier attempt's, or another run's, result for this one's.
        key = f"{call.definition.name}-{call.key.hex()[:8]}-{os.urandom(6).hex()}"
        once = call.definition.options.on_interrupt == "fail"
        sent = (_execute_once, key) if once else (execute_packed,)
        future = self._client.submit(*sent, parcel, self.dumps, key=key, pure=False, retries=0)
        try:
            reply: bytes = await future
            if not reply:
                raise Lost("dask", "died, and Dask began it a second time, which was refused,")
        except KilledWorker as killed:
            address = getattr(killed.last_worker, "address", "?")
            raise Lost(f"dask {address}", "died") from None
        except FutureCancelled as lost:
            raise Lost("dask", f"was lost ({lost})") from None
        finally:
            future.release()
            if once:
                await Event(key, client=self._client).clear()
        return unpacked_reply(reply)

    async def _begin(self) -> None:
        from asyncio import get_running_loop  # the loop is running, so this is a look-up

        from distributed import Client

        address, cluster = self.address, self.cluster
        if address is None:
            if cluster is None:
                cluster = self._own_cluster = await get_running_loop().run_in_executor(None, self._start_cluster)
            if self.adapt_kwargs:
                cluster.adapt(**self.adapt_kwargs)
            address = cluster.scheduler_address
            self.client_kwargs.setdefault("security", getattr(cluster, "security", None))
        options = {"set_as_default": False, **self.client_kwargs, "asynchronous": True}
        self._client = await Client(address, **options)

    def _start_cluster(self) -> Any:
        import dask

        kind, kwargs = self.cluster_class, self.cluster_kwargs
        if kind is None:
            from distributed import LocalCluster

            kind, kwargs = LocalCluster, {"dashboard_address": ":0", **kwargs}  # two flows at once are no accident
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            return kind(**kwargs)

    def _close(self) -> None:
        with self.lock:
            driver = self._driver
        if driver is None or self._starting is None:
            return
        from asyncio import run_coroutine_threadsafe  # it is imported: there is a loop

        run_coroutine_threadsafe(self._end(), driver.loop).result()
        if self._own_cluster is not None:
            self._own_cluster.close()

    async def _end(self) -> None:
        from asyncio import wait  # the loop is running, so this is a look-up

        await wait([self._starting])
        if self._client is not None:
            await self._client.close()


def _execute_once(mark: str, parcel: bytes, dumps: Callable[[Any], bytes]) -> bytes:
    """Execute a packed parcel, in a Dask worker, unless that was begun before: then nothing."""
    from distributed import Event

    begun = Event(mark)
    if begun.is_set():
        return b""
    begun.set()
    return execute_packed(parcel, dumps)


def _imported(path: str) -> Any:
    """A class by its import path.

    Raises:
        ConfigurationError: there is none.
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"DaskTaskRunner(cluster_class={path!r}): expected the import path of a class: {error}"
        ) from error
