"""Lines that no worker could do: SQS moved their messages aside by itself, and somebody must say so in the result.

The messages are only looked at. They stay visible, for people and for the alarm that counts them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llm_fleet.batches.ledger import WORTH_RUNNING, BatchLedger
from llm_fleet.batches.messages import LineMessage, NotALineError
from llm_fleet.batches.results import Failure, Results
from llm_fleet.gateway.clerk.patience import patiently
from llm_fleet.json_log import JsonLog

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

CAUSE = "cause"
"""Attribute of messages that a worker itself put aside: it has written their result."""
HIDDEN_S = 60
"""While a look lasts, so that it sees each message once; afterwards they are visible again at once."""
MESSAGES_PER_CALL = 10
MAX_CALLS = 100
"""In one look; what it did not reach is seen by a later one."""
REMEMBERED = 20_000
"""Ids of messages that need nothing more; a forgotten one costs two calls."""


class DeadLetters:
    """The dead-letter queues of all pools. Calls raise what AWS's clients raise."""

    def __init__(
        self, sqs: SQSClient, queue_urls: Iterable[str], ledger: BatchLedger, results: Results, log: JsonLog
    ) -> None:
        self._sqs = sqs
        self._queue_urls = tuple(dict.fromkeys(queue_urls))
        self._ledger = ledger
        self._results = results
        self._log = log
        self._settled: OrderedDict[str, None] = OrderedDict()

    def look(self) -> None:
        """Record a failure for each line whose message is there and has none."""
        for queue_url in self._queue_urls:
            if self._waiting(queue_url):
                self._look_into(queue_url)

    def _waiting(self, queue_url: str) -> bool:
        name = "ApproximateNumberOfMessages"
        answer = self._sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=[name])
        return answer.get("Attributes", {}).get(name) != "0"

    def _look_into(self, queue_url: str) -> None:
        hidden: list[str] = []
        try:
            for _ in range(MAX_CALLS):
                answer = self._sqs.receive_message(
                    QueueUrl=queue_url,
                    MaxNumberOfMessages=MESSAGES_PER_CALL,
                    VisibilityTimeout=HIDDEN_S,
                    WaitTimeSeconds=1,
                    MessageAttributeNames=[CAUSE],
                )
                messages = answer.get("Messages", [])
                if not messages:
                    return
                hidden += [message.get("ReceiptHandle", "") for message in messages]
                for message in messages:
                    self._settle(message)
        finally:
            self._show(queue_url, hidden)

    def _settle(self, message: Any) -> None:
        message_id = message["MessageId"]
        if message_id in self._settled:
            self._settled.move_to_end(message_id)
            return
        if CAUSE not in message.get("MessageAttributes", {}):
            self._record(message["Body"])
        self._settled[message_id] = None
        if len(self._settled) > REMEMBERED:
            self._settled.popitem(last=False)

    def _record(self, body: str) -> None:
        try:
            line = LineMessage.from_body(body)
        except NotALineError as error:
            self._log.event("dead_letter_is_no_line", problem=str(error)[:200])
            return
        if patiently(lambda: self._ledger.status(line.batch_id)) not in WORTH_RUNNING:
            return
        failure = Failure("gave_up", "No worker could complete this request in the attempts that its queue allows.")
        if patiently(lambda: self._results.record(line.batch_id, line.line, line.custom_id, failure)):
            self._log.event("line_gave_up", batch=line.batch_id, line=line.line)

    def _show(self, queue_url: str, hidden: list[str]) -> None:
        for start in range(0, len(hidden), MESSAGES_PER_CALL):
            entries: Any = [
                {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for index, handle in enumerate(hidden[start : start + MESSAGES_PER_CALL])
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=queue_url, Entries=entries)
