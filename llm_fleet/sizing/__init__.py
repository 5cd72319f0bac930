"""Memory, speed and latency of (model, precision, instance type, workload): pure functions over numbers.

What is counted:
    weights.py         parameter groups of a model, and their bytes in a format
    traits.py          what one model in one format costs: bytes, multiplications, cache per token
    device.py          one accelerator: peaks, memory, link, kin
    cache.py           bytes of a sequence's cache by kind of layer
    reserve.py         what an engine's version takes of a device before the cache
    layout.py          how a model is split over devices, and where the memory of one goes
    neuron_buckets.py  shapes that a Neuron engine compiles, and what padding to them wastes
    boot.py            seconds from launch to first token, by stage

What is fitted (`make calibrate`):
    coefficients.py, coefficient_file.py   the coefficients and their file
    interval.py, evidence.py               how far a prediction may be off, and which points stand behind it

What is predicted:
    case.py       a configuration in the field's words, as the arrays that the physics takes
    step_time.py  seconds of one engine step
    service.py    steady state of an instance at a load
    forecast.py   the service of a configuration with its interval, and the largest load within the marks
    memory.py     the parts of a device's memory, the longest context, sequences that fit
    serving.py    the serving plan of an instance type: its best split, and every other
"""
