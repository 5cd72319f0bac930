"""Messages of the pool's queue: taken, kept from others while they are worked on, given back, deleted.

Every answer of SQS about a message means "it may be delivered again": a delete with an old receipt handle is refused,
or succeeds and deletes nothing, or deletes. So no answer is relied upon; the one result of a line is (results.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.json_log import JsonLog

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import ChangeMessageVisibilityBatchRequestEntryTypeDef, MessageAttributeValueTypeDef

BATCH = 10
"""SQS's most entries in a call."""
LONGEST_DELAY_S = 900
"""SQS's longest delay of a new message."""


@dataclass(frozen=True)
class QueueFacts:
    """What the queue's attributes say."""

    visibility_timeout_s: int
    max_receives: int
    """Leases that a message may see before SQS moves it to the dead-letter queue."""


@dataclass
class Lease:
    """One message that this worker holds."""

    message_id: str
    receipt_handle: str
    body: str
    receives: int
    """How often it was delivered, this time included; approximate."""
    lost: bool = False
    """Others may have it by now."""


class Leases:
    """The messages held. Methods may be called from any thread; those that end a lease never raise."""

    def __init__(self, sqs: SQSClient, queue_url: str, dead_letters_url: str, facts: QueueFacts, log: JsonLog) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._dead_letters_url = dead_letters_url
        self._facts = facts
        self._log = log
        self._held: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._extending = threading.Lock()
        self.ended = threading.Event()
        """Set each time a lease ends; whoever waits for it clears it."""

    @property
    def held(self) -> int:
        """How many."""
        return len(self._held)

    def is_last(self, lease: Lease) -> bool:
        """Whether SQS would not deliver the message again but move it away."""
        return lease.receives >= self._facts.max_receives

    def receive(self, wanted: int, wait_s: int) -> list[Lease]:
        """Take up to `wanted` messages, waiting up to `wait_s` for the first.

        A message that is already held here (its lease ran out, or was lost) is not returned: the work that is under
        way goes on with the new handle.

        Raises:
            ClientError, BotoCoreError: of SQS.
        """
        answer = self._sqs.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=min(BATCH, wanted),
            WaitTimeSeconds=wait_s,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        fresh: list[Lease] = []
        for message in answer.get("Messages", ()):
            receives = int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))
            lease = Lease(message["MessageId"], message["ReceiptHandle"], message["Body"], receives)  # pyright: ignore[reportTypedDictNotRequiredAccess]
            with self._lock:
                known = self._held.get(lease.message_id)
                if known is None:
                    self._held[lease.message_id] = lease
                    fresh.append(lease)
                else:
                    known.receipt_handle, known.receives, known.lost = lease.receipt_handle, lease.receives, False
        return fresh

    def delete(self, lease: Lease) -> None:
        """End a lease whose work is done. Where SQS refuses, the message comes again and finds its result."""
        self._end(lease, "delete", lambda: self._delete(lease))

    def give_back(self, lease: Lease, delay_s: float) -> None:
        """End a lease whose work was tried in vain: it counts against the line."""
        self._end(lease, "give_back", lambda: self._make_visible(lease, delay_s))

    def give_back_unharmed(self, lease: Lease, delay_s: float) -> None:
        """End a lease for a reason that is not the line's own.

        SQS would move a message at its last receive to the dead-letter queue, so a copy that starts to count anew
        takes its place.
        """

        def copy_and_delete() -> None:
            delay = min(LONGEST_DELAY_S, int(delay_s))
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=lease.body, DelaySeconds=delay)
            self._delete(lease)

        back = copy_and_delete if self.is_last(lease) else lambda: self._make_visible(lease, delay_s)
        self._end(lease, "give_back", back)

    def bury(self, lease: Lease, cause: str) -> None:
        """End a lease by moving the message to the dead-letter queue, with its cause."""

        def move() -> None:
            cause_attribute: dict[str, MessageAttributeValueTypeDef] = {
                "cause": {"DataType": "String", "StringValue": cause[:1000] or "unknown"}
            }
            self._sqs.send_message(
                QueueUrl=self._dead_letters_url, MessageBody=lease.body, MessageAttributes=cause_attribute
            )
            self._delete(lease)

        self._end(lease, "bury", move)

    def extend_until(self, stopped: threading.Event) -> None:
        """Keep what is held from others, until `stopped`: a thread's work."""
        pause_s = self._facts.visibility_timeout_s / 3
        while not stopped.wait(pause_s):
            with self._lock:
                held = list(self._held.values())
            try:
                for first in range(0, len(held), BATCH):
                    self._extend(held[first : first + BATCH])
                pause_s = self._facts.visibility_timeout_s / 3
            except (ClientError, BotoCoreError) as error:
                self._log.event("leases_not_extended", error=str(error))
                pause_s = self._facts.visibility_timeout_s / 10

    def _extend(self, leases: list[Lease]) -> None:
        with self._extending:
            entries: list[ChangeMessageVisibilityBatchRequestEntryTypeDef] = [
                {
                    "Id": str(index),
                    "ReceiptHandle": lease.receipt_handle,
                    "VisibilityTimeout": self._facts.visibility_timeout_s,
                }
                for index, lease in enumerate(leases)
                if lease.message_id in self._held and not lease.lost
            ]
            if not entries:
                return
            answer = self._sqs.change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)
        for failed in answer.get("Failed", ()):
            lease = leases[int(failed["Id"])]
            if failed["SenderFault"] and lease.message_id in self._held:
                lease.lost = True
                self._log.event("lease_lost", message_id=lease.message_id, code=failed["Code"])

    def _end(self, lease: Lease, what: str, change: Callable[[], None]) -> None:
        with self._lock:
            self._held.pop(lease.message_id, None)
        with self._extending:  # one that is under way may name this lease: after the change it would hide it again
            pass
        try:
            change()
        except (ClientError, BotoCoreError) as error:
            self._log.event("lease_left", what=what, message_id=lease.message_id, error=str(error))
        self.ended.set()

    def _delete(self, lease: Lease) -> None:
        self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=lease.receipt_handle)

    def _make_visible(self, lease: Lease, delay_s: float) -> None:
        self._sqs.change_message_visibility(
            QueueUrl=self._queue_url, ReceiptHandle=lease.receipt_handle, VisibilityTimeout=int(delay_s)
        )
