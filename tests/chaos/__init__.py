"""Real faults on a real Kafka and real service processes, and a checker that knows nothing of the services.

`cluster` keeps the processes, `proxy` stands on the broker's port, `points` and `child` stop a process at a named
place, `faults` does the harm, `load` and `poison` send events meanwhile, `follower` reads meanwhile, `oracle` and
`checker` say what should have come out, `fingerprints` compares states, `run` puts it together. See docs/chaos.md.
"""
