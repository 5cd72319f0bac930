"""The pool's metrics, as far as a worker knows them: what waits and is leased in the queue, what lines took."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from llm_fleet.batches.results import Answer, Failure
from llm_fleet.cloudwatch import Publisher
from llm_fleet.json_log import JsonLog

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

VISIBLE, NOT_VISIBLE = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"


class Published:
    """Gathers and sends."""

    def __init__(self, publisher: Publisher, sqs: SQSClient, queue_url: str, pool: str, log: JsonLog) -> None:
        self._publisher = publisher
        self._sqs = sqs
        self._queue_url = queue_url
        self._pool = pool
        self._log = log

    def line(self, result: Answer | Failure, tokens: int, seconds: float) -> None:
        """Count a line that has ended."""
        completed = isinstance(result, Answer) and result.status_code < 300
        self._publisher.sample("LinesCompleted" if completed else "LinesFailed", self._pool, 1, "Count")
        if completed:
            self._publisher.sample("OutputTokens", self._pool, tokens, "Count")
            self._publisher.sample("LineSeconds", self._pool, seconds, "Seconds")

    def publish_until(self, stopped: threading.Event, every_s: float) -> None:
        """Send until `stopped`: a thread's work."""
        while not stopped.wait(every_s):
            self.publish()

    def publish(self) -> None:
        """Send now. What cannot be sent is sent later."""
        try:
            answer = self._sqs.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=[VISIBLE, NOT_VISIBLE])
            attributes = answer.get("Attributes", {})
            self._publisher.level("Backlog", self._pool, float(attributes[VISIBLE]))
            self._publisher.level("InFlight", self._pool, float(attributes[NOT_VISIBLE]))
            self._publisher.flush()
        except (ClientError, BotoCoreError) as error:
            self._log.event("metrics_not_sent", error=str(error))
