"""What a plan leaves open until the model is known: which transport carries it, which stopping rule it means."""

import msgspec

from loadgen.errors import PlanError
from loadgen.plan import Plan
from loadgen.windows import ByWindows


def settled(plan: Plan, *, keeps_state: bool) -> Plan:
    """Return the plan with a stopping rule that no longer asks whether the model keeps state."""
    stopping = plan.stopping
    if not isinstance(stopping, ByWindows) or stopping.throughput_suffices is not None:
        return plan
    return msgspec.structs.replace(plan, stopping=msgspec.structs.replace(stopping, throughput_suffices=keeps_state))


def resolved(plan: Plan, *, in_streams: bool) -> Plan:
    """Return the plan with the transport that `auto` stands for: direct wherever it can serve.

    Raises:
        PlanError: direct or HTTP is asked for and cannot.
    """
    if plan.endpoint.http:
        return _over_http(plan, in_streams=in_streams)
    lacks = "the model answers in streams (it is decoupled)" if in_streams and not plan.streaming else ""
    lacks = lacks or ("requests go over streams" if in_streams else "")
    lacks = lacks or ("messages are to be compressed" if plan.compression != "none" else "")
    if plan.transport == "direct" and lacks:
        raise PlanError(f"transport direct: cannot be used where {lacks}; write grpcio, or auto")
    if plan.transport != "auto":
        return plan
    return msgspec.structs.replace(plan, transport="grpcio" if lacks else "direct")


def _over_http(plan: Plan, *, in_streams: bool) -> Plan:
    if in_streams:
        raise PlanError(f"{plan.endpoint.model}: answers in streams (it is decoupled), which is for gRPC; use it")
    return msgspec.structs.replace(plan, transport="http")
