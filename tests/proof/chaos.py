"""Chaos: a seeded schedule of faults, and who does them to a fleet.

The schedule is a pure function of the seed: kinds, when, and which of the instances (by position) each one hits. When
is told in lines that have ended, so that every fault finds work under way, on a fast machine as on a slow one.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.proof.faults import AWS_FAULTS, THROTTLE, FaultProxy, rule
from tests.proof.fleet import VISIBILITY_TIMEOUT_S, Fleet, Gateway
from tests.proof.instances import EngineProcess, Instance
from tests.proof.processes import CLERK_MODULE, children, kill_process

POOL = "batch_processing"
TIMES: dict[str, int] = {
    "worker-killed": 3,
    "instance-lost": 2,
    "spot-notice": 2,
    "scale-in": 1,
    "rebalance-recommended": 2,
    "frozen-past-visibility": 2,
    "gateway-sigterm": 1,
    "gateway-sigkill": 1,
    "clerk-killed": 2,
    "engine-crashed": 2,
    "engine-stalled": 2,
    "engine-500": 2,
    "engine-503": 1,
    "engine-cut": 1,
}
"""How often each kind happens in a run."""
WINDOW_S = 3.0
"""How long an engine that answers fails."""
AWS_HITS = 20
"""A fault of AWS holds until so many requests met it."""
STALLED_S = 8.0
"""Longer than a line's answer may take, so that the worker gives up by itself first."""
NOTICE_S = 8.0
"""From a notice to the end of the instance; AWS gives two minutes."""


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that goes wrong."""

    at_lines: int
    """Once so many lines have ended."""
    kind: str
    position: int
    """Which of the instances, taken round."""


def schedule(seed: int, lines: int) -> list[Fault]:
    """All faults of a run in order, the kinds spread evenly over it."""
    rng = random.Random(seed)
    kinds = [kind for kind, times in TIMES.items() for _ in range(times)]
    kinds += [f"{service}-{fault}" for service in THROTTLE for fault in AWS_FAULTS]
    rng.shuffle(kinds)
    step = 0.95 * lines / len(kinds)
    return [Fault(int((number + rng.random()) * step), kind, rng.randrange(100)) for number, kind in enumerate(kinds)]


class Chaos:
    """Does the faults of a schedule when their time has come, and keeps the fleet at its size."""

    def __init__(self, fleet: Fleet, proxy: FaultProxy, gateway: Gateway, instances: list[Instance]) -> None:
        self.fleet = fleet
        self.proxy = proxy
        self.gateway = gateway
        self.instances = instances
        self.left: list[Instance] = []
        self.done: Counter[str] = Counter()
        self.restarted: Counter[str] = Counter()
        """Processes that ended by themselves."""
        self.exit_codes: list[int] = []
        """Of gateways that were told to end, or killed (-9)."""
        self.too_late = 0
        """Faults that found the work done: they prove nothing."""
        self.drained_by_rebalance: list[str] = []
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._gone: set[str] = set()
        """Names of instances that have been told to leave, or have left."""

    def run(self, faults: list[Fault], look: Callable[[], int], lines: int) -> None:
        """Do the faults as the work goes on; `look` tells how many lines have ended. Returns when all have, and
        whatever a fault began is over.
        """
        waiting = list(faults)
        ended = 0
        while waiting or self._later or ended < lines:
            ended = look()
            while waiting and waiting[0].at_lines <= ended:
                fault = waiting.pop(0)
                self._do(fault)
                self.done[fault.kind] += 1
                self.too_late += ended == lines
            due = [act for at, act in self._later if at <= time.monotonic()]
            self._later = [(at, act) for at, act in self._later if at > time.monotonic()]
            for act in due:
                act()
            self._supervise()
            time.sleep(0.2)

    def _supervise(self) -> None:
        """What ended by itself, say because AWS was silent at its start, is started again: systemd and ECS do so."""
        for instance in self.instances:
            worker = instance.worker
            if not worker.running and worker.popen.returncode > 0 and instance.name not in self._gone:
                self.restarted[f"worker exit {worker.popen.returncode}"] += 1
                instance.restart_worker()
        if not self.gateway.running and self.gateway.popen.returncode > 0:
            self.restarted[f"gateway exit {self.gateway.popen.returncode}"] += 1
            self.gateway.restart()

    def _after(self, delay_s: float, act: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + delay_s, act))

    def _do(self, fault: Fault) -> None:
        service, _, word = fault.kind.partition("-")
        if service in THROTTLE:
            self.proxy.add({**rule(service, word), "times": AWS_HITS})
        elif fault.kind.startswith("gateway"):
            self._restart_gateway(kill=fault.kind.endswith("kill"))
        elif fault.kind == "clerk-killed":
            self._kill_clerk()
        else:
            instance = self._pick(fault.position)
            getattr(self, "_" + fault.kind.replace("-", "_"))(instance)

    def _pick(self, position: int) -> Instance:
        staying = [instance for instance in self.instances if instance.name not in self._gone]
        return staying[position % len(staying)]

    def _replace(self, instance: Instance) -> None:
        if instance in self.instances:
            self.instances.remove(instance)
            self.left.append(instance)
        instance.vanish()
        self.instances.append(self.fleet.start_instance(POOL))

    def _worker_killed(self, instance: Instance) -> None:
        instance.worker.kill()
        self._after(1, instance.restart_worker)

    def _instance_lost(self, instance: Instance) -> None:
        self._gone.add(instance.name)
        self._replace(instance)

    def _spot_notice(self, instance: Instance) -> None:
        self._gone.add(instance.name)
        instance.give_spot_notice()
        self._after(NOTICE_S, lambda: self._replace(instance))

    def _scale_in(self, instance: Instance) -> None:
        self._gone.add(instance.name)
        instance.scale_in()
        self._after(NOTICE_S, lambda: self._replace(instance))

    def _rebalance_recommended(self, instance: Instance) -> None:
        instance.recommend_rebalance()

        def look() -> None:
            drained = any(line.get("event") == "draining" for line in instance.worker.events())
            if drained and instance.name not in self._gone:
                self.drained_by_rebalance.append(instance.name)

        self._after(4, look)

    def _frozen_past_visibility(self, instance: Instance) -> None:
        worker = instance.worker
        worker.freeze()
        self._after(VISIBILITY_TIMEOUT_S + 3, worker.thaw)

    def _restart_gateway(self, *, kill: bool) -> None:
        old = self.gateway
        if kill:
            old.kill()
        elif old.running:
            old.signal(signal.SIGTERM)
            self._after(0.2, lambda: self._replace_gateway(old))
            return
        self._replace_gateway(old)

    def _replace_gateway(self, old: Gateway) -> None:
        """Once it has ended; what it serves may take a while."""
        if old.running:
            self._after(0.2, lambda: self._replace_gateway(old))
        elif self.gateway is old:
            self.exit_codes.append(old.popen.returncode)
            self.gateway = self.fleet.start_gateway(port=old.port, wait=False)

    def _kill_clerk(self) -> None:
        if self.gateway.running:
            for clerk in children(self.gateway.popen.pid, CLERK_MODULE):
                kill_process(clerk)

    def _engine_crashed(self, instance: Instance) -> None:
        instance.engine.kill()
        self._after(2, instance.restart_engine)

    def _engine_stalled(self, instance: Instance) -> None:
        """It takes requests and answers none, until its watchdog ends it."""
        self._set_mode(instance.engine, "stall", 3 * STALLED_S)
        self._after(STALLED_S, instance.engine.kill)
        self._after(STALLED_S + 2, instance.restart_engine)

    def _engine_500(self, instance: Instance) -> None:
        self._set_mode(instance.engine, "error", status=500)

    def _engine_503(self, instance: Instance) -> None:
        self._set_mode(instance.engine, "error", status=503)

    def _engine_cut(self, instance: Instance) -> None:
        self._set_mode(instance.engine, "cut", after_chunks=1)

    def _set_mode(self, engine: EngineProcess, kind: str, for_s: float = WINDOW_S, **more: int) -> None:
        if engine.running:
            engine.order("mode", kind=kind, **more)
            self._after(for_s, engine.back_to_normal)

    def alive(self) -> Iterator[Instance]:
        """Instances that were not told to leave."""
        return (instance for instance in self.instances if instance.name not in self._gone)
