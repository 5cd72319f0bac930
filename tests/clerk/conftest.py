from tests.batches.fixtures import clock, world

__all__ = ["clock", "world"]
