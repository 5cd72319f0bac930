from tests.batches.fixtures import batch_cloud, clock, world

__all__ = ["batch_cloud", "clock", "world"]
