"""From a pattern's name to a FleetPlan. Stages, each with its input, output and what it must not do:

    request.py      pattern + overrides + models  -> PoolRequest per pool: model, precision, limits; chooses no type
    load.py         workload + usage              -> rates at low, expected and peak, and the month's profile
    purchase.py     usage + overrides             -> the mix of on-demand and spot, and its price for n instances
    cost.py         serving plan + price          -> instances at a rate, the month's money, boots
    criteria.py     PoolRequest x instance type   -> Assessment: serving plan, cost, every criterion it fails, as data
    choosing.py     assessments                   -> choices with weights, the rest ranked or rejected
    choice.py       a ranked type                 -> its form in the plan: interval, evidence, splits, boot, shapes
    levers.py       the request, changed          -> what boldness and each lever would save; takes none
    scaling.py      choices + rules               -> sizes, steps and schedules in capacity units
    guide_choice.py assessments                   -> what the article's rules would take, and the difference in money
    cautions.py     all of it                     -> sentences a user must read before deploying
    existing_vpc.py the plan                      -> what a given VPC lacks
    fleet.py        puts the stages together
    plan.py         FleetPlan, the value they make

No stage reads the clock, the network, the environment or AWS: same input, same plan, byte for byte.
"""

from llm_fleet.planning.fleet import plan_fleet
from llm_fleet.planning.plan import FleetPlan, plan_json_schema

__all__ = ["FleetPlan", "plan_fleet", "plan_json_schema"]
