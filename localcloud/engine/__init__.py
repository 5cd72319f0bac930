"""A small real engine on CPU; runs in .venv-engine, which holds llama.cpp and the model and nothing else."""
