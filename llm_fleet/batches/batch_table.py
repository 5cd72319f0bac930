"""Batches in the batch table: each under its id, in the list of its key, and in the open partition until it ends.

A clerk that works on a batch holds a lease in the batch's item, and every change it makes is on the condition that it
still does: a clerk that was frozen and comes back changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llm_fleet.batches.file_table import add_actions, list_partition
from llm_fleet.batches.ledger import BATCH_ITEM, FILE_ITEM, KEEP_S, LINES_PREFIX, OPEN_PARTITION, BatchStatus
from llm_fleet.batches.records import (
    BATCH_ID,
    CANCELLABLE,
    BatchRecord,
    Counts,
    FileRecord,
    batch_attributes,
    batch_record,
    to_attributes,
)
from llm_fleet.batches.table import Change, ConditionFailedError, Table, delete, put, update


class NotCancellableError(Exception):
    """The batch's status allows no cancel; it is in `record`."""

    def __init__(self, record: BatchRecord) -> None:
        super().__init__(record.status)
        self.record = record


class LeaseLostError(Exception):
    """The batch is no longer this clerk's, or no longer in the status that the change was meant for."""


@dataclass(frozen=True)
class Lines:
    """Which lines have a result."""

    counts: Counts
    ended: bytearray
    """1 at the index of each line that has one."""


class BatchTable:
    """Calls raise botocore's ClientError or BotoCoreError."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, record: BatchRecord) -> None:
        """A new batch. Adding it again changes nothing.

        Raises:
            ConditionFailedError: its input file was deleted meanwhile.
        """
        expires_at = record.created_at + KEEP_S
        entry = {"input_file_id": record.input_file_id, "expires_at": expires_at}
        used = Change({"last_batch": record.batch_id}, "attribute_exists(batch_id)")
        parts = [
            # Only new: a repeat whose first answer was lost must not undo what a clerk has done by then.
            put(record.batch_id, BATCH_ITEM, batch_attributes(record), only_new=True),
            put(list_partition(record.key_id), _list_item(record), to_attributes({"expires_at": expires_at})),
            put(OPEN_PARTITION, record.batch_id, to_attributes(entry)),
            update(record.input_file_id, FILE_ITEM, used),
        ]
        try:
            self._table.write(parts)
        except ConditionFailedError:
            if self.get(record.batch_id) is None:
                raise

    def get(self, batch_id: str) -> BatchRecord | None:
        """The batch as it stands now."""
        item = self._table.get(batch_id, BATCH_ITEM) if BATCH_ID.fullmatch(batch_id) else None
        return batch_record(item) if item else None

    def list_ids(self, key_id: str, *, after: BatchRecord | None, limit: int) -> list[str]:
        """Ids of the key's batches, newest first; at most `limit`."""
        items = self._table.query(
            list_partition(key_id), "batch#", after=_list_item(after) if after else None, newest_first=True, page=limit
        )
        return [item["item"]["S"].rpartition("#")[2] for item, _ in zip(items, range(limit), strict=False)]

    def open_ids(self) -> Iterator[str]:
        """Ids of the batches that have not ended."""
        return (item["item"]["S"] for item in self._table.query(OPEN_PARTITION))

    def counts(self, record: BatchRecord) -> Counts:
        """How its lines stand now; read the record first, so that completed + failed never pass the total."""
        if record.ended or not record.total:
            return Counts(record.total, record.completed, record.failed)
        return self.lines(record).counts

    def lines(self, record: BatchRecord) -> Lines:
        """Which lines have a result now."""
        ended = bytearray(record.total)
        completed = failed = 0
        for item in self._table.query(record.batch_id, LINES_PREFIX):
            completed += int(item.get("completed", {"N": "0"})["N"])
            failed += int(item.get("failed", {"N": "0"})["N"])
            for line in item["ended"]["NS"]:
                ended[int(line)] = 1
        return Lines(Counts(record.total, completed, failed), ended)

    def cancel(self, batch_id: str, now: float) -> BatchRecord:
        """Ask for the end of a batch. Asking again changes nothing.

        Raises:
            NotCancellableError: it ends already, or has ended.
        """
        allowed = ", ".join(f":{status}" for status in sorted(CANCELLABLE))
        values = {status: status for status in CANCELLABLE}
        change = Change({"status": "cancelling", "cancelling_at": int(now)}, f"#status IN ({allowed})", **values)
        try:
            return batch_record(self._table.update(batch_id, BATCH_ITEM, change))
        except ConditionFailedError:
            record = self.get(batch_id)
            assert record is not None, "batches are not deleted while their key asks for them"
            if record.status == "cancelling":
                return record
            raise NotCancellableError(record) from None

    def lease(self, batch_id: str, owner: str, now: float, lease_s: float) -> BatchRecord | None:
        """Take the batch, or keep it. None where another clerk has it or it is gone.

        The record is as it stands with the lease.
        """
        change = Change(
            {"lease_owner": owner, "lease_until": round(now + lease_s)},
            "attribute_exists(batch_id) AND "
            "(attribute_not_exists(lease_owner) OR lease_owner = :me OR lease_until < :now)",
            me=owner,
            now=round(now),
        )
        try:
            return batch_record(self._table.update(batch_id, BATCH_ITEM, change))
        except ConditionFailedError:
            return None

    def give_back(self, batch_id: str, owner: str) -> None:
        """End the lease where it is still the owner's."""
        change = Change({"lease_owner": None, "lease_until": None}, "lease_owner = :me", me=owner)
        try:
            self._table.update(batch_id, BATCH_ITEM, change)
        except ConditionFailedError:
            return

    def advance(self, record: BatchRecord, owner: str, changes: dict[str, Any]) -> BatchRecord:
        """Change attributes of a batch on which `owner` works and whose status is the record's.

        Raises:
            LeaseLostError: either is no longer so.
        """
        try:
            return batch_record(self._table.update(record.batch_id, BATCH_ITEM, _mine(record, owner, changes)))
        except ConditionFailedError as error:
            raise LeaseLostError(record.batch_id) from error

    def end(
        self,
        record: BatchRecord,
        owner: str,
        status: BatchStatus,
        now: float,
        changes: dict[str, Any],
        files: Sequence[FileRecord] = (),
    ) -> None:
        """End a batch: its last status, the files it wrote, and nothing open any more, all at once.

        Raises:
            LeaseLostError: it is not the owner's, or not in the record's status.
        """
        last = {"status": status, f"{status}_at": int(now), "lease_owner": None, "lease_until": None, **changes}
        try:
            self._table.write(
                [
                    update(record.batch_id, BATCH_ITEM, _mine(record, owner, last)),
                    delete(OPEN_PARTITION, record.batch_id),
                    *(action for file in files for action in add_actions(file)),
                ]
            )
        except ConditionFailedError as error:
            raise LeaseLostError(record.batch_id) from error


def _mine(record: BatchRecord, owner: str, changes: dict[str, Any]) -> Change:
    return Change(changes, "lease_owner = :me AND #status = :was", me=owner, was=record.status)


def _list_item(record: BatchRecord) -> str:
    return f"batch#{record.created_at:010d}#{record.batch_id}"
