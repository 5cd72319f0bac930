"""Code of the function that raises a group's on-demand base while spot is dry. The CDK uploads handler.py with the rule
of llm_fleet/scaling beside it; Lambda's own boto3 is all else that it needs.
"""
