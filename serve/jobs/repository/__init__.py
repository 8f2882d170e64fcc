"""Every query on jobs, images, events and workers. None of them commits.

A transaction locks one job, then images of it; a claim, which starts at images, never waits for a
job. So no two transactions can wait for each other.
"""

from serve.jobs.repository.claiming import any_queued, charge, queues_of, take_images
from serve.jobs.repository.events import append_event, events_beyond, first_event
from serve.jobs.repository.files import orphans
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
    existing_jobs,
    job_by_idempotency_key,
    live_jobs,
    load_job,
    load_jobs,
    lock_job,
    new_jobs,
    overdue_jobs,
)
from serve.jobs.repository.pictures import (
    delete_picture,
    delete_pictures_of,
    load_image,
    load_images,
    set_favourite,
)
from serve.jobs.repository.sources import (
    forget_lost_sources,
    forget_sources,
    hold_sources,
    touch_sources,
)
from serve.jobs.repository.submission import insert_job
from serve.jobs.repository.transaction import (
    clock,
    database_identity,
    try_reaper_lock,
    try_sweeper_lock,
)
from serve.jobs.repository.usage import (
    charge_usage,
    give_back_usage,
    gpu_seconds_used,
    lock_quota,
    read_usage,
)
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
    "any_queued",
    "append_event",
    "beat",
    "charge",
    "charge_usage",
    "claiming_slots",
    "claiming_workers",
    "clock",
    "count_jobs",
    "count_live",
    "count_live_images",
    "database_identity",
    "delete_picture",
    "delete_pictures_of",
    "delete_silent_workers",
    "delete_worker",
    "end_images",
    "events_beyond",
    "existing_jobs",
    "first_event",
    "forget_lost_sources",
    "forget_sources",
    "free_places_elsewhere",
    "give_back_usage",
    "gpu_seconds_used",
    "hold_sources",
    "images_held",
    "insert_job",
    "insert_worker",
    "is_measured",
    "job_by_idempotency_key",
    "jobs_of",
    "keep_profile",
    "live_jobs",
    "live_workers",
    "load_image",
    "load_images",
    "load_job",
    "load_jobs",
    "load_profiles",
    "lock_job",
    "lock_queued_jobs",
    "lock_quota",
    "new_jobs",
    "orphans",
    "overdue_jobs",
    "queues_of",
    "read_ring",
    "read_usage",
    "read_waiting",
    "read_work",
    "release_image",
    "requeue_image",
    "set_favourite",
    "take_images",
    "touch_sources",
    "try_reaper_lock",
    "try_sweeper_lock",
    "unfinished_seconds",
    "waits_in_vain",
]
