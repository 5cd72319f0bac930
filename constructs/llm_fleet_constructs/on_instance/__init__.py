"""What an instance runs between its first boot and its last second; the CDK uploads this folder as it stands.

    python3 -m on_instance image     pull the engine's image
    python3 -m on_instance weights   bring the weights onto the disk, filling the S3 cache when they are not there yet
    python3 -m on_instance engine N  become the engine of replica N
    python3 -m on_instance ready     start the engines, wait for a generated token, complete the launch hook
    python3 -m on_instance leave     watch for the end, drain the engines, complete the terminate hook

Needs Python 3.9, docker and the AWS CLI, nothing else: `hub.py` alone runs inside the engine's container, which
brings huggingface_hub.
"""
