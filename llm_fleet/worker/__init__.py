"""The queue worker of an instance: does the lines of batches, says that the instance lives, leaves in good order.

Imports neither CDK nor planning; reads one settings document.
"""
