"""Memory, speed and latency of (model, precision, instance type, workload): pure functions over numbers.

memory.py       bytes of weights and KV cache, the engine's reserve, what is left per device
step.py         seconds of one engine step: roofline plus communication plus fixed costs
serving.py      the serving plan of one instance type: tensor parallel degree, replicas, the largest load within
the marks
neuron_buckets.py  shapes that a Neuron engine compiles, and what padding to them costs
boot.py         seconds from launch to first token, by stage, and their cost
"""
