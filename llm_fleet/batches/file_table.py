"""Files in the batch table: each under its id, and in the list of its key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_fleet.batches.ledger import FILE_ITEM, OPEN_PARTITION
from llm_fleet.batches.records import FILE_ID, FileRecord, file_attributes, file_record
from llm_fleet.batches.table import Table, delete, put


class FileInUseError(Exception):
    """A batch that has not ended reads the file."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(batch_id)
        self.batch_id = batch_id


class FileTable:
    """Calls raise botocore's ClientError or BotoCoreError."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, record: FileRecord) -> None:
        """From now on the file is there."""
        self._table.write(add_actions(record))

    def get(self, key_id: str, file_id: str, now: float) -> FileRecord | None:
        """The file where it is the key's, else None."""
        item = self._table.get(file_id, FILE_ITEM) if FILE_ID.fullmatch(file_id) else None
        record = file_record(item) if item else None
        return record if record and record.key_id == key_id and record.expires_at > now else None

    def list(
        self, key_id: str, now: float, *, after: FileRecord | None, newest_first: bool, purpose: str | None
    ) -> Iterator[FileRecord]:
        """The key's files by time."""
        items = self._table.query(
            list_partition(key_id),
            "file#",
            after=_list_item(after) if after else None,
            newest_first=newest_first,
            where={"purpose": purpose} if purpose else None,
        )
        return (record for record in map(file_record, items) if record.expires_at > now)

    def delete(self, record: FileRecord) -> None:
        """From now on the file is not there.

        Raises:
            FileInUseError: a batch that has not ended reads it.
            ConditionFailedError: it was deleted meanwhile, or a batch began with it: look again.
        """
        for item in self._table.query(OPEN_PARTITION, where={"input_file_id": record.file_id}):
            raise FileInUseError(item["item"]["S"])
        self._table.write(
            [
                # A batch made since the look above has left its id here, and the delete is refused.
                delete(record.file_id, FILE_ITEM, "last_batch = :last_batch", last_batch=record.last_batch),
                delete(list_partition(record.key_id), _list_item(record)),
            ]
        )


def add_actions(record: FileRecord) -> list[dict[str, Any]]:
    """Parts of a write that add a file."""
    attributes = file_attributes(record)
    return [
        put(record.file_id, FILE_ITEM, attributes),
        put(list_partition(record.key_id), _list_item(record), attributes),
    ]


def list_partition(key_id: str) -> str:
    """Where a key's files and batches are listed."""
    return f"key#{key_id}"


def _list_item(record: FileRecord) -> str:
    return f"file#{record.created_at:010d}#{record.file_id}"
