"""The teacher LLM behind one interface: requests, an answer store, executors (`replay`, `http`) and tolerant reading of answers."""
