"""Every query on jobs, images, events and workers. None of them commits.

A transaction locks one job, then images of it; a claim, which starts at images, never waits for a
job. So no two transactions can wait for each other.
"""

from serve.jobs.repository.events import append_event, events_after, events_beyond
from serve.jobs.repository.images import (
    abandoned_images,
    add_variants,
    claim_images,
    count_live_images,
    count_work,
    end_images,
    images_held,
    jobs_of,
    load_image,
    load_images,
    lock_queued_jobs,
    picture_rate,
    release_image,
    requeue_abandoned,
)
from serve.jobs.repository.jobs import (
    count_jobs,
    insert_job,
    job_by_idempotency_key,
    job_exists,
    live_jobs,
    load_job,
    load_jobs,
    lock_job,
    new_jobs,
    overdue_jobs,
)
from serve.jobs.repository.transaction import clock, try_reaper_lock
from serve.jobs.repository.workers import (
    beat,
    delete_silent_workers,
    delete_worker,
    insert_worker,
    live_workers,
)

__all__ = [
    "abandoned_images",
    "add_variants",
    "append_event",
    "beat",
    "claim_images",
    "clock",
    "count_jobs",
    "count_live_images",
    "count_work",
    "delete_silent_workers",
    "delete_worker",
    "end_images",
    "events_after",
    "events_beyond",
    "images_held",
    "insert_job",
    "insert_worker",
    "job_by_idempotency_key",
    "job_exists",
    "jobs_of",
    "live_jobs",
    "live_workers",
    "load_image",
    "load_images",
    "load_job",
    "load_jobs",
    "lock_job",
    "lock_queued_jobs",
    "new_jobs",
    "overdue_jobs",
    "picture_rate",
    "release_image",
    "requeue_abandoned",
    "try_reaper_lock",
]
