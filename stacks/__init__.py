"""What is deployed together. Composition only: every number and choice comes from the FleetPlan.

foundation.py    long-lived and kept: network, key, buckets, tables, logs
serving.py       replaceable: pools, gateway, alarms, dashboard, budget
fleet_app.py     FleetPlans -> the CDK app
"""
