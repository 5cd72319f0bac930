"""For all tests: none of them may reach a real AWS account."""

from __future__ import annotations

import os

for name in [name for name in os.environ if name.startswith(("AWS_", "CDK_"))]:
    del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
