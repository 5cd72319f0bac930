"""Constructs of the fleet: frozen props in, grant_* and metrics out; no context, environment or user's file is read.

network, data_key, access_logs, weights_cache, batch_store, worker_registry, api_keys    long-lived: the foundation
work_queue, pool (instance_role, pool_scaling, capacity_fallback), service_image, gateway_service, budget
                                                                               replaceable: the serving side
metrics, gateway_metrics -> alarms, dashboard                                  numbers, then who looks at them
boot, on_instance                                                              what an instance is told and runs
acknowledgements, grants, escape_hatches                                       every exception, with its reason
"""
