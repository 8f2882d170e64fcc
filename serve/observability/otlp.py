"""OpenTelemetry's SDK with its OTLP exporter. Imported only where traces are recorded."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_UNNAMED = "unknown_service"


def open_provider(instance: str) -> TracerProvider:
    """Exports in batches, from a thread of its own.

    Endpoint, headers, sampler, limits, delays and further attributes of the resource are what the
    environment's ``OTEL_*`` say, the service's name among them; by default that is ``sfumato``.
    """
    resource = Resource.create({SERVICE_INSTANCE_ID: instance})
    if str(resource.attributes[SERVICE_NAME]).startswith(_UNNAMED):
        resource = resource.merge(Resource({SERVICE_NAME: "sfumato"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(_WithoutQueries())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class _WithoutQueries(SpanProcessor):
    """FastAPI records a request's query: tickets, signatures and searched words are among them."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if span.attributes and "url.query" in span.attributes:
            span.set_attribute("url.query", "REDACTED")
