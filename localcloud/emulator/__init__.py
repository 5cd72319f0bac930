"""What runs inside .venv-cloud: ministack with the parts it lacks for our stacks, registered in its own tables."""
