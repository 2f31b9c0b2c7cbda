"""Jobs that outlive their clients: the states, the durable store, the worker and the service that doors speak to."""
