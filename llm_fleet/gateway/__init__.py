"""The router service: OpenAI's API in front of the pools.

Imports neither CDK nor planning; reads one settings document.
"""
