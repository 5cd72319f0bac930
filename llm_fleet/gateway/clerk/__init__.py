"""The batch clerk: carries each batch from upload to output, in a process beside the gateway's.

Its own process: 50,000 lines of JSON and thousands of AWS calls would hold up the streams that a gateway serves.

__main__.py       starts it; ends with its parent or on SIGTERM
clerk.py          polls for open batches and dead letters, and sets threads on them
carrying.py       what is next for a batch, by its status
lease.py          one clerk at a time for a batch
validation.py     is every line of the input a request?
enqueueing.py     one message a line, to the queue of its pool
line_routing.py   which pool that is
finalizing.py     results into output and error file, in input order
dead_letters.py   a named failure for lines that no worker could do
input_lines.py    the lines of a file, read in pieces
patience.py       tries again where AWS refuses or is silent
pace.py           how often, how long
"""
