"""The server-sent events of a streamed answer, on their way to the client."""

from __future__ import annotations

from llm_fleet.gateway.usage import MARK, usage_in

HELD_BYTES = 1 << 20
"""Of an event that does not end: then it goes on as it is."""
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")


class EventStream:
    """What is known of the events that went to the client, and the half of one that has not."""

    __slots__ = ("_held", "_last", "_usage_from", "count")

    def __init__(self) -> None:
        self.count = 0
        """Events, to estimate tokens by where the engine tells no usage."""
        self._held = self._last = self._usage_from = b""

    def take(self, piece: bytes, complete: bool) -> bytes:
        """What may go to the client, now that this piece has come."""
        if self._held or not piece.endswith(b"\n\n"):
            piece = self._whole_events(piece, complete)
        if piece:
            self.count += piece.count(b"data:")
            if MARK in piece:
                self._usage_from = piece
            self._last = piece
        return piece

    @property
    def is_done(self) -> bool:
        """Whether the event [DONE] went by, which ends most streams."""
        return b"[DONE]" in self._last

    @property
    def usage(self) -> tuple[int, int] | None:
        """Prompt and completion tokens, as the engine told them."""
        return usage_in(self._usage_from) if self._usage_from else None

    def _whole_events(self, piece: bytes, complete: bool) -> bytes:
        """What are whole events of it. The rest waits for its end: after half an event no client would understand the
        error event that ends a broken stream, nor a sign of life.
        """
        piece = self._held + piece
        end = max(piece.rfind(end) + len(end) if end in piece else 0 for end in _EVENT_ENDS)
        if complete or len(piece) - end > HELD_BYTES:
            end = len(piece)
        self._held = piece[end:]
        return piece[:end]
