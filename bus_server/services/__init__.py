"""Maps RPCs to calls of the domain: a dispatcher, and one servicer for each proto service.

A method of a servicer checks the request, calls the domain, and returns the response or writes
frames. `dispatch.py` authenticates callers and translates errors.
"""
