"""The teacher LLM behind one interface: requests, a store of raw answers, executors (replay, http,
batch, ray) and tolerant reading.
"""
