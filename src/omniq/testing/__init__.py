"""What proves a backend: the conformance suite, the model and the state machine. Needs pytest."""
