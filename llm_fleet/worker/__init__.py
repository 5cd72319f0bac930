"""The queue worker of an instance: does the lines of batches, says that the instance lives, leaves in good order.

    python -m llm_fleet.worker [--settings PATH]
    python -m llm_fleet.worker --settings PATH --worker-id ID --host ADDRESS --instance-type TYPE      on a laptop

Exit codes: 0 drained, 1 a thread of its own failed (the log says where), 2 the settings are wrong, 3 something that the
worker needs is not there.

    settings, identity, imds, start_checks    what it must know before it starts
    worker                                    the order of things: ready, serving, leaving
    intake, leases                            messages: taken, kept, given back, deleted
    line, line_body                           one line from message to result
    lanes, engine, engine_metrics, pace       the engines: how many lines at once, and whether they generate
    registration, published, hooks, leaving   what the rest of the fleet is told, and why the worker goes

Imports neither CDK, planning nor gateway. Plain threads, boto3 and http.client: each line is a handful of blocking
calls that together last as long as an engine answers, and an instance runs some dozens at a time, so an event loop
would save nothing and asks for an AWS client of our own. botocore's calls are what a line costs here, 8 ms of CPU as
measured: about a hundred lines a second, where an engine answers one to some tens.

Nothing is kept here that could be lost: a killed worker's messages come back after the visibility timeout, a result
is written once whoever writes it, and a registry entry expires.
"""
