"""HTTP/1.1 on both sides of the gateway, by callbacks: no task and no parser of our own on the proxied path.

server      the client's side: accepts connections, looks at their time-outs, drains
connection  one of them: what came is acted on, and what takes too long is ended
reading     what the parser tells of its requests
limits      what clients may hold and how long, and what they are told beyond it
call        one request on its way through the layers, and its answer
heads       what a response's head says
paths       which route a request asks for
endpoint    runs the coroutines of http.py
engines     the engines' side: a pool of connections
"""
