"""The metrics of one process: each defined once, for every outlet, dashboard and page.

No label's values grow with clients: there is no tenant, key, prompt or path among them.
"""

from __future__ import annotations

from serve.observability.meter import Counter, Gauge, Histogram, Metric

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""From a cached answer to a picture that a CPU draws."""
_SHORT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""From a round trip on one machine to a time-out."""
_STEP_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10, 60)

STAGES = (
    "waiting",
    "loading",
    "encoding",
    "denoising",
    "decoding",
    "postprocessing",
    "storing",
    "committing",
)
"""What a picture goes through, in this order: the values of the label ``stage``."""

# HTTP

HTTP_REQUESTS = Counter(
    "sfumato_http_requests_total",
    "This process: HTTP requests answered.",
    ("method", "route", "status"),
)
HTTP_REQUEST_DURATION = Histogram(
    "sfumato_http_request_duration_seconds",
    "This process: seconds from a request's arrival to the end of its answer.",
    SECONDS,
    ("method", "route"),
)
HTTP_REFUSALS = Counter(
    "sfumato_http_refusals_total",
    "This process: requests answered with a problem, by its code.",
    ("code",),
)

# Jobs and pictures

JOBS_SUBMITTED = Counter(
    "sfumato_jobs_submitted_total",
    "This process: jobs accepted.",
    ("pool", "model"),
)
JOBS_ENDED = Counter(
    "sfumato_jobs_ended_total",
    "This process: jobs that it brought to their end, by their last state.",
    ("state", "pool", "model"),
)
JOB_DURATION = Histogram(
    "sfumato_job_duration_seconds",
    "This process: seconds from a job's acceptance to its end.",
    SECONDS,
    ("state", "pool", "model"),
)
PICTURE_STAGE = Histogram(
    "sfumato_picture_stage_seconds",
    "This process: seconds that a picture spent in a stage; waiting is from when it was queued, the"
    " last time, to the engine's first step for it, without loading.",
    SECONDS,
    ("stage", "pool", "model"),
)

# The engine's steps

STEP_SECONDS = Histogram(
    "sfumato_step_seconds",
    "This process: seconds of one denoising step of a batch.",
    _STEP_SECONDS,
    ("model", "size"),
)
STEP_BATCH_SIZE = Histogram(
    "sfumato_step_batch_size",
    "This process: requests that shared a denoising step.",
    (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
    ("model",),
)
STEP_BATCH_FILL = Histogram(
    "sfumato_step_batch_fill_ratio",
    "This process: share of the batch's places that a denoising step used.",
    (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1),
    ("model",),
)
STEPS_DISCARDED = Counter(
    "sfumato_steps_discarded_total",
    "This process: steps made for pictures that came to nothing: cancelled, expired, handed back"
    " to the queue or failed.",
    ("reason",),
)

# Faults

LEASES_LOST = Counter(
    "sfumato_leases_lost_total",
    "This process: leases of its worker that ran out, so that its pictures were queued again.",
)
PICTURE_CRASHES = Counter(
    "sfumato_picture_crashes_total",
    "This process: pictures that it queued again because their worker was gone.",
)
WORKERS_REAPED = Counter(
    "sfumato_workers_reaped_total",
    "This process: workers whose lease had run out, and that it deleted.",
)
DAMAGED_FILES = Counter(
    "sfumato_damaged_files_total",
    "This process: files that were not sent because they were missing or altered.",
    ("fault",),
)

# The device and the process

DEVICE_UTILIZATION = Gauge(
    "sfumato_device_utilization_ratio",
    "This process: share of the last sample's time in which its device computed.",
    ("device",),
)
DEVICE_MEMORY_USED = Gauge(
    "sfumato_device_memory_used_bytes",
    "This process: memory of its device that is in use, by whatever process.",
    ("device",),
)
DEVICE_MEMORY_TOTAL = Gauge(
    "sfumato_device_memory_total_bytes", "This process: memory of its device.", ("device",)
)
DEVICE_POWER = Gauge(
    "sfumato_device_power_watts", "This process: power that its device draws.", ("device",)
)
DEVICE_TEMPERATURE = Gauge(
    "sfumato_device_temperature_celsius", "This process: temperature of its device.", ("device",)
)
DEVICE_ERRORS = Counter(
    "sfumato_device_errors_total",
    "This process: errors of its device since the replica's start, by kind: xid, or ECC errors"
    " that could not be corrected.",
    ("device", "kind"),
)
PROCESS_CPU = Counter(
    "sfumato_process_cpu_seconds_total", "This process: seconds of CPU time that it has used."
)
PROCESS_MEMORY = Gauge(
    "sfumato_process_resident_memory_bytes", "This process: memory that it holds in RAM."
)

# What it leans on

DATABASE_CONNECTIONS = Gauge(
    "sfumato_database_connections",
    "This process: connections to Postgres, used or idle.",
    ("state",),
)
DATABASE_WAIT = Histogram(
    "sfumato_database_connection_wait_seconds",
    "This process: seconds that a transaction waited for a connection.",
    _SHORT_SECONDS,
)
CACHE_LOOKUPS = Counter(
    "sfumato_cache_lookups_total",
    "This process: lookups in a cache (keys, limits, pages, trends, pictures that were drawn"
    " before), by whether it held the answer: hit or miss.",
    ("cache", "result"),
)
REDIS_ROUND_TRIP = Histogram(
    "sfumato_redis_round_trip_seconds",
    "This process: seconds that Redis took to answer.",
    _SHORT_SECONDS,
)
STORAGE_OPERATIONS = Counter(
    "sfumato_storage_operations_total",
    "This process: operations of storage, each try counted, by what came of them.",
    ("operation", "result"),
)
STORAGE_SECONDS = Histogram(
    "sfumato_storage_operation_seconds",
    "This process: seconds that an operation of storage took.",
    SECONDS,
    ("operation",),
)

# Events and webhooks

EVENT_SOCKETS = Gauge("sfumato_event_sockets", "This process: WebSockets that follow events now.")
EVENTS_SENT = Counter(
    "sfumato_events_sent_total", "This process: events sent to clients.", ("type",)
)
EVENTS_DROPPED = Counter(
    "sfumato_events_dropped_total",
    "This process: events that are not stored, and were left out for a client that lags behind.",
    ("type",),
)
EVENT_DELAY = Histogram(
    "sfumato_event_delay_seconds",
    "This process: seconds from an event's `created_at` to its sending to a client that follows.",
    _SHORT_SECONDS,
)
WEBHOOK_ATTEMPTS = Counter(
    "sfumato_webhook_attempts_total",
    "This process: attempts to deliver an event to a webhook: delivered, to be retried, or given"
    " up.",
    ("result",),
)

METRICS: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Counter | Gauge | Histogram)
)
"""All of them."""
