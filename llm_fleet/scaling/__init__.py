"""Rules on the size and mix of a group, as pure functions: no clock, no network, nothing beyond the standard library.

on_demand_base      how many units must be on-demand while spot is dry; copied into the function that applies it
"""
