"""Batches as gateway and workers both see them: the message of a line, its one result, the counts.

messages.py   one SQS message a line: where the line lies in the input file
results.py    one result a line, written once whoever finishes first, and counted once
ledger.py     keys of the batch table; what a worker asks of it

What the gateway's side needs besides:
records.py        a batch and a file, typed
table.py          conditional reads and writes of the batch table
batch_table.py    batches in it, and the lease of the clerk that carries one
file_table.py     files in it
file_objects.py   files in their bucket, in pieces

The durable truth: input file, results and output files in S3, state and counts in DynamoDB. A message may come twice,
come late or die with its worker; a line has one result all the same.
"""
