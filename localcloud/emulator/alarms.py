"""CloudWatch alarms on metric math, and composite alarms: stored and described, never evaluated."""

from typing import Any

from ministack.services import cloudwatch
from ministack.services.cloudformation import provisioners

from localcloud.emulator.registry import Created, Properties, accepted, physical_name, register

SINGLE_METRIC_MEMBERS = ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Dimensions", "Unit")

_single_metric_record = provisioners._cw_metric_alarm_record


def install() -> None:
    """Accept Metrics in AWS::CloudWatch::Alarm and register AWS::CloudWatch::CompositeAlarm."""
    provisioners._cw_metric_alarm_record = alarm_record
    register("AWS::CloudWatch::CompositeAlarm", create_composite, delete_composite, update_composite)


def alarm_record(name: str, properties: Properties) -> dict[str, Any]:
    """The stored alarm. One on metric math holds Metrics in place of the members of a single metric."""
    if not properties.get("Metrics"):
        return _single_metric_record(name, properties)
    stand_in = {key: value for key, value in properties.items() if key != "Metrics"}
    record = _single_metric_record(name, {**stand_in, "MetricName": "stand-in", "Namespace": "stand-in"})
    kept = {key: value for key, value in record.items() if key not in SINGLE_METRIC_MEMBERS}
    return {**kept, "Metrics": [metric_query(query) for query in properties["Metrics"]]}


def metric_query(query: Properties) -> dict[str, Any]:
    """A metric data query with numbers and booleans in the API's types; templates may carry them as strings."""
    typed = dict(query)
    if "ReturnData" in typed:
        typed["ReturnData"] = provisioners._cfn_bool(typed["ReturnData"])
    if "MetricStat" in typed:
        typed["MetricStat"] = {**typed["MetricStat"], "Period": int(typed["MetricStat"]["Period"])}
    if "Period" in typed:
        typed["Period"] = int(typed["Period"])
    return typed


def put_composite(name: str, properties: Properties) -> Created:
    """Write the composite alarm; ministack itself refuses a rule that names an unknown alarm."""
    accepted(cloudwatch._put_composite_alarm({}, {**properties, "AlarmName": name}, False, is_json=True))
    return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}


def create_composite(logical_id: str, properties: Properties, stack: str) -> Created:
    """AWS::CloudWatch::CompositeAlarm: Ref is its name."""
    return put_composite(properties.get("AlarmName") or physical_name(stack, logical_id), properties)


def update_composite(name: str, old: Properties, new: Properties, stack: str) -> Created:
    """Everything but the name changes in place."""
    return put_composite(name, new)


def delete_composite(name: str, properties: Properties) -> None:
    """Forget the alarm."""
    cloudwatch._composite_alarms.pop(name, None)
