"""Every query on jobs, images, events and workers. None of them commits.

A transaction locks one job, then images of it; a claim, which starts at images, never waits for a
job. So no two transactions can wait for each other.
"""

from serve.jobs.repository.events import append_event, first_event
from serve.jobs.repository.images import (
    abandoned_images,
    add_variants,
    count_live_images,
    end_images,
    images_held,
    jobs_of,
    lock_queued_jobs,
    release_image,
    requeue_image,
    unfinished_seconds,
    waits_in_vain,
)
from serve.jobs.repository.jobs import (
    count_jobs,
    job_by_idempotency_key,
    load_job,
    load_jobs,
    lock_job,
    overdue_jobs,
)
from serve.jobs.repository.submission import insert_job
from serve.jobs.repository.work import (
    count_live,
    is_measured,
    keep_profile,
    load_profiles,
    read_ring,
    read_waiting,
    read_work,
)
from serve.jobs.repository.workers import (
    beat,
    claiming_slots,
    claiming_workers,
    delete_silent_workers,
    delete_worker,
    free_places_elsewhere,
    insert_worker,
    live_workers,
)

__all__ = [
    "abandoned_images",
    "add_variants",
    "append_event",
    "beat",
    "claiming_slots",
    "claiming_workers",
    "count_jobs",
    "count_live",
    "count_live_images",
    "delete_silent_workers",
    "delete_worker",
    "end_images",
    "first_event",
    "free_places_elsewhere",
    "images_held",
    "insert_job",
    "insert_worker",
    "is_measured",
    "job_by_idempotency_key",
    "jobs_of",
    "keep_profile",
    "live_workers",
    "load_job",
    "load_jobs",
    "load_profiles",
    "lock_job",
    "lock_queued_jobs",
    "overdue_jobs",
    "read_ring",
    "read_waiting",
    "read_work",
    "release_image",
    "requeue_image",
    "unfinished_seconds",
    "waits_in_vain",
]
