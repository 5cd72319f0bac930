"""Constructs of the fleet. Each takes frozen props, gives grant_* and metrics, and reads no context, environment or file of the user's.

network, data_key, access_logs, weights_cache, batch_store, worker_registry    long-lived: the foundation
work_queue, pool, pool_scaling, gateway_service, budget                         replaceable: the serving side
metrics -> alarms, dashboard                                                    which numbers, then who looks at them
boot, on_instance                                                               what an instance is told, what it runs
escape_hatches                                                                  every L1 override, with its reason
"""
