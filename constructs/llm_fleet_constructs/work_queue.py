"""The durable path of one pool: a queue, and where its messages go that nobody could do."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from llm_fleet_constructs.grants import allow, allow_key

PERIOD = Duration.seconds(60)
"""Of every metric of the fleet: SQS and group metrics exist once a minute, and one expression needs one period."""


@dataclass(frozen=True)
class WorkQueueProps:
    """Of WorkQueue."""

    key: kms.IKey
    """Encrypts the messages: they hold prompts."""
    visibility_timeout_s: int = 300
    """Default 300: the lease of a message. A worker renews it while it works, so it only bounds how long a dead
    worker's work waits.
    """
    max_receives: int = 5
    """Default 5: leases a message may see before it counts as poison. Spot interruptions use up leases too, so not
    1.
    """
    retention_days: int = 4
    """Default 4: several times a batch's completion window of one day."""


class WorkQueue(Construct):
    """Queue and dead-letter queue of one pool: encrypted, TLS only, long-polled.

    Smallest use:

        work = WorkQueue(self, "Queue", WorkQueueProps(key=key))
        work.grant_serve(gateway_role)
        work.grant_consume(instance_role)
    """

    def __init__(self, scope: Construct, id: str, props: WorkQueueProps) -> None:
        super().__init__(scope, id)
        self.key = props.key
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=props.key,
            enforce_ssl=True,
            # A message keeps its age when it moves here, so this must outlast the queue's own retention by far.
            retention_period=Duration.days(14),
        )
        self.queue = sqs.Queue(
            self,
            "Resource",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=props.key,
            data_key_reuse=Duration.hours(1),
            enforce_ssl=True,
            receive_message_wait_time=Duration.seconds(20),
            retention_period=Duration.days(props.retention_days),
            visibility_timeout=Duration.seconds(props.visibility_timeout_s),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=props.max_receives),
        )

    def metric_visible(self) -> cloudwatch.Metric:
        """Messages waiting; a minute or more old, absent while the queue sleeps."""
        return self.queue.metric_approximate_number_of_messages_visible(statistic="Maximum", period=PERIOD)

    def metric_leased(self) -> cloudwatch.Metric:
        """Messages that workers hold."""
        return self.queue.metric_approximate_number_of_messages_not_visible(statistic="Maximum", period=PERIOD)

    def metric_oldest_s(self) -> cloudwatch.Metric:
        """Age of the oldest message in seconds. SQS leaves out messages received three times or more."""
        return self.queue.metric_approximate_age_of_oldest_message(statistic="Maximum", period=PERIOD)

    def metric_dead_letters(self) -> cloudwatch.Metric:
        """Messages in the dead-letter queue."""
        return self.dead_letters.metric_approximate_number_of_messages_visible(statistic="Maximum", period=PERIOD)

    def grant_serve(self, grantee: iam.IGrantable) -> None:
        """The gateway's part: put messages, read how many wait, look at what was given up and leave it there."""
        allow(grantee, ["sqs:SendMessage", "sqs:GetQueueAttributes"], [self.queue.queue_arn])
        look = ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
        allow(grantee, look, [self.dead_letters.queue_arn])
        allow_key(grantee, self.key)

    def grant_consume(self, grantee: iam.IGrantable) -> None:
        """The worker's part: lease, renew and delete messages, put one back for later, read how many wait, and put
        poison aside with its cause.
        """
        lease = ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage"]
        allow(grantee, lease, [self.queue.queue_arn])
        put = ["sqs:SendMessage", "sqs:GetQueueAttributes"]
        allow(grantee, put, [self.queue.queue_arn, self.dead_letters.queue_arn])
        allow_key(grantee, self.key)
