"""What an instance runs between its first boot and its last second; the CDK uploads this folder as it stands.

    python3 -m on_instance image      pull the images of engine and worker
    python3 -m on_instance weights    bring the weights onto the disk, filling the S3 cache when they are not there yet
    python3 -m on_instance engine N   become the engine of replica N
    python3 -m on_instance ready      start the engines, wait for a generated token, then start the worker
    python3 -m on_instance unhealthy  have the group replace the instance: its worker could not be kept running

The worker (llm_fleet.worker, in its own container) completes both lifecycle hooks and drains. Where the settings name
no worker image, `ready` completes the launch hook itself, and this takes the worker's place at the end:

    python3 -m on_instance leave      watch for the end, drain the engines, complete the terminate hook

Needs Python 3.9, docker and the AWS CLI, nothing else: `hub.py` alone runs inside the engine's container, which
brings huggingface_hub.
"""
