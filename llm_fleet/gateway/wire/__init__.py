"""HTTP/1.1 on both sides of the gateway, by callbacks: no task and no parser of our own on the proxied path.

server    the client's side: connections, limits, time-outs
call      one request on its way through the layers, and its answer
heads     what a response's head says
paths     which route a request asks for
endpoint  runs the coroutines of http.py
engines   the engines' side: a pool of connections
"""
