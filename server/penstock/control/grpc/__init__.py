"""gRPC's methods that the data plane does not answer itself: it relays their messages, one call each.

Needs protobuf, which comes with the extra `grpc`; whoever imports a module of this package deals with its absence.
"""

__all__: list[str] = []
