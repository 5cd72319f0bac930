"""Plan and serve open LLMs on AWS accelerators: everything that is not CDK."""

__version__ = "0.1.0"
