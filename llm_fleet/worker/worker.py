"""The order of things: ready, serving, leaving. Every part is made here and knows no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from llm_fleet import aws
from llm_fleet.batches.ledger import BatchLedger
from llm_fleet.batches.results import Results
from llm_fleet.cloudwatch import Publisher
from llm_fleet.json_log import JsonLog
from llm_fleet.registry import EXPIRES_AFTER_S, Engine, Registry, State, WorkerEntry
from llm_fleet.worker.hooks import Hooks
from llm_fleet.worker.identity import Identity
from llm_fleet.worker.imds import Imds
from llm_fleet.worker.intake import Intake
from llm_fleet.worker.lanes import Lanes
from llm_fleet.worker.leases import Leases
from llm_fleet.worker.leaving import Departure, Notices
from llm_fleet.worker.line import LineWork
from llm_fleet.worker.pace import ahead
from llm_fleet.worker.published import Published
from llm_fleet.worker.registration import Registration
from llm_fleet.worker.settings import WorkerSettings
from llm_fleet.worker.start_checks import check

TICK_S = 0.1
OTHER_CONNECTIONS = 8
"""Of a client, beside one for each line: intake, leases, registration, metrics."""
HAND_BACK_S = 10
"""For giving leases back once the budget is used up."""
HOOK_TRIES = 5


class Worker:
    """The worker of one instance."""

    def __init__(
        self,
        settings: WorkerSettings,
        identity: Identity,
        imds: Imds | None,
        log: JsonLog,
        told_to_stop: Callable[[], bool],
    ) -> None:
        """Make every part, and check what it needs. `imds` is None on a laptop: there nobody gives notice.

        Raises:
            InputError: the settings do not know the instance's type.
            NotThereError: a queue, table, bucket or permission is missing.
        """
        self._settings = settings
        self._identity = identity
        self._plan = settings.plan_for(identity.instance_type)
        self._log = log
        self._times = settings.worker
        region = settings.region
        slots = self._plan.replicas * self._plan.max_num_seqs
        connections = OTHER_CONNECTIONS + slots + ahead(slots)
        sqs = aws.client("sqs", region, connections=connections)
        s3 = aws.client("s3", region, connections=connections)
        dynamodb = aws.client("dynamodb", region, connections=connections)
        facts = check(settings, sqs, s3, dynamodb)
        self._told_to_stop = told_to_stop
        self._state: State = "serving"
        self._stopped = threading.Event()
        self._time_is_up = threading.Event()
        self._departure = Departure(log)
        self._notices = self._make_notices(imds)
        self._hooks = Hooks(aws.client("autoscaling", region), identity.group, identity.worker_id, log)
        first = settings.engine.port
        engines = tuple(
            Engine(identity.host, port, self._plan.max_num_seqs) for port in range(first, first + self._plan.replicas)
        )
        self._engines = engines
        self._lanes = Lanes(engines, settings.model.served_model_name, self._times, log)
        self._leases = Leases(sqs, settings.queue_url, settings.dead_letter_queue_url, facts, log)
        ledger = BatchLedger(dynamodb, settings.batch_table)
        publisher = Publisher(aws.client("cloudwatch", region), settings.metrics_namespace, settings.pattern)
        self._published = Published(publisher, sqs, settings.queue_url, settings.pool, log)
        work = LineWork(
            leases=self._leases,
            lanes=self._lanes,
            ledger=ledger,
            results=Results(s3, settings.batch_results_bucket, ledger),
            s3=s3,
            files_bucket=settings.batch_files_bucket,
            times=self._times,
            log=log,
            report=self._published.line,
            stopping=self._time_is_up,
        )
        self._intake = Intake(self._leases, self._lanes.wanted, work.do, self._times.poll_wait_s, log)
        self._registration = Registration(
            Registry(dynamodb, settings.registry_table), self._entry, self._times.register_s, log
        )

    def run(self) -> None:
        """Serve until there is a reason to leave, then leave. Returns when that is done."""
        if self._notices is not None:
            self._notices.look()  # started on an instance that leaves already: it must not serve again
            self._start("notices", self._notices.watch, self._times.metadata_s, self._stopped)
        if not self._departure.begun.is_set():
            self._lanes.start()
            self._start("leases", self._leases.extend_until, self._stopped)
            self._start("published", self._published.publish_until, self._stopped, self._times.publish_s)
        while not self._leaves() and not self._lanes.ready.is_set():
            time.sleep(TICK_S)
        if not self._leaves():
            self._serve()
        self._leave()

    def _serve(self) -> None:
        self._registration.start()
        self._log.event("engines_ready", engines=len(self._engines))
        in_service = self._hooks.complete(self._settings.hooks.launch)
        self._intake.start()
        self._log.event("serving", leases_at_first=self._lanes.wanted())
        next_try = time.monotonic() + self._times.register_s
        unhealthy_said = False
        while not self._leaves():
            time.sleep(TICK_S)
            self._set_state("serving" if self._lanes.alive() else "failing")
            if time.monotonic() < next_try:
                continue
            next_try = time.monotonic() + self._times.register_s
            in_service = in_service or self._hooks.complete(self._settings.hooks.launch)
            if not unhealthy_said and self._lanes.silent_s() > self._times.unhealthy_after_s:
                unhealthy_said = self._hooks.mark_unhealthy()

    def _leave(self) -> None:
        """Drain within the budget, hand back what is left, say goodbye."""
        self._intake.stop()
        self._set_state("draining")
        settings, departure = self._settings, self._departure
        hook_beats = False
        began = time.monotonic()
        while departure.remaining_s() > 0 and not self._drained(began):
            self._leaves()
            if departure.of_the_instance and not hook_beats:
                hook_beats = True
                every_s = settings.hooks.drain_seconds / 3
                self._start("heartbeat", self._hooks.beat, settings.hooks.terminate, every_s, self._stopped)
            time.sleep(TICK_S)
        self._time_is_up.set()
        self._lanes.cancel_all()
        self._intake.join(self._times.poll_wait_s + HAND_BACK_S)
        deadline = time.monotonic() + HAND_BACK_S
        while self._leases.held and time.monotonic() < deadline:
            time.sleep(TICK_S)
        self._registration.close()
        self._published.publish()
        self._stopped.set()
        for _ in range(HOOK_TRIES if departure.of_the_instance else 0):
            if self._hooks.complete(settings.hooks.terminate):
                break
            time.sleep(1)
        self._log.event("left", leases_left=self._leases.held)

    def _drained(self, began: float) -> bool:
        """No line is held, and, where the instance goes, nobody else's request runs in an engine either.

        Gateways learn from the registry that the instance drains, so until they all have read it there may be more.
        """
        if self._leases.held:
            return False
        if not self._departure.of_the_instance:
            return True
        return time.monotonic() - began > self._times.linger_s and sum(self._lanes.load()) == 0

    def _leaves(self) -> bool:
        if self._told_to_stop():
            self._departure.begin("SIGTERM", self._settings.hooks.drain_seconds, of_the_instance=False)
        return self._departure.begun.is_set()

    def _set_state(self, state: State) -> None:
        if state != self._state:
            self._state = state
            self._log.event(state)
            self._registration.changed()

    def _entry(self) -> WorkerEntry:
        running, waiting = self._lanes.load()
        return WorkerEntry(
            pool=self._settings.pool,
            worker_id=self._identity.worker_id,
            state=self._state,
            engines=self._lanes.alive() or self._engines,
            instance_type=self._identity.instance_type,
            units=self._plan.capacity_weight,
            running=running,
            waiting=waiting,
            leased=self._leases.held,
            expires_at=time.time() + EXPIRES_AFTER_S,
        )

    def _make_notices(self, imds: Imds | None) -> Notices | None:
        if imds is None:
            return None
        drain_s = self._settings.hooks.drain_seconds
        return Notices(imds, self._departure, self._log, drain_s=drain_s, spot_budget_s=self._times.spot_budget_s)

    @staticmethod
    def _start(name: str, work: object, *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, name=name, daemon=True).start()  # pyright: ignore[reportArgumentType]
