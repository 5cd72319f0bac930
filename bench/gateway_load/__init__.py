"""What `bench/gateway` and `bench/worker` are made of.

upstream.c        the engine's stand-in       load.c   the load; both in C, so that neither is what is measured
tools.py          builds and runs the two
process_tree.py   CPU time and memory of a process with all its children, from /proc
proxies.py        nginx, vllm-router and LiteLLM, each installed and started as its makers say
measures.py       the loads, and one run of one
fleet.py          our gateway, with every layer on, against a local cloud
lines.py          a batch for the worker
"""
