"""Lines that SQS moved aside get a named failure; their messages stay for people and for the alarm."""

from __future__ import annotations

from tests.batches.batch_world import BatchWorld, answer, request_lines


def give_up(world: BatchWorld) -> str:
    """What happens to lines whose workers die each time; the dead-letter queue's URL."""
    pool = world.settings.pools["batch_processing"]
    for visibility_s in (0, 0):
        while True:
            got = world.sqs.receive_message(
                QueueUrl=pool.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=visibility_s
            )
            if not got.get("Messages"):
                break
    return pool.dead_letter_queue_url


def visible(world: BatchWorld, queue_url: str) -> str:
    name = "ApproximateNumberOfMessages"
    return world.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=[name])["Attributes"][name]


def test_a_line_that_no_worker_could_do_fails_by_name(world: BatchWorld):
    batch_id = world.create(request_lines(13))
    clerk = world.clerk()
    world.carry(clerk, batch_id, "in_progress")
    world.results.record(batch_id, 0, "id-0", answer())
    dead_letters = give_up(world)
    batch = world.carry(clerk, batch_id, "completed")
    assert batch["request_counts"] == {"total": 13, "completed": 1, "failed": 12}
    errors = world.lines_of(batch["error_file_id"])
    assert {line["error"]["code"] for line in errors} == {"gave_up"}
    assert visible(world, dead_letters) == "13"


def test_a_message_that_is_no_line_stays_and_harms_nothing(world: BatchWorld):
    dead_letters = world.settings.pools["batch_processing"].dead_letter_queue_url
    world.sqs.send_message(QueueUrl=dead_letters, MessageBody="poison")
    batch_id = world.create(request_lines(1))
    clerk = world.clerk()
    world.carry(clerk, batch_id, "in_progress")
    give_up(world)
    world.carry(clerk, batch_id, "completed")
    assert visible(world, dead_letters) == "2"


def test_what_a_worker_put_aside_itself_is_left_to_its_worker(world: BatchWorld):
    batch_id = world.create(request_lines(1))
    clerk = world.clerk()
    world.carry(clerk, batch_id, "in_progress")
    pool = world.settings.pools["batch_processing"]
    body = world.sqs.receive_message(QueueUrl=pool.queue_url)["Messages"][0]["Body"]
    cause = {"cause": {"DataType": "String", "StringValue": "engine_error"}}
    world.sqs.send_message(QueueUrl=pool.dead_letter_queue_url, MessageBody=body, MessageAttributes=cause)
    for _ in range(3):
        clerk.poll_and_wait()
    assert world.batch(batch_id)["request_counts"] == {"total": 1, "completed": 0, "failed": 0}
