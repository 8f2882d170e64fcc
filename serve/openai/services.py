"""What OpenAI's routes work with."""

from __future__ import annotations

from dataclasses import dataclass

from serve.http.drain import Drain
from serve.jobs.lifecycle import Jobs
from serve.jobs.limits import ServedModels
from serve.jobs.sourcing import Sourcing
from serve.pictures.checked_files import CheckedFiles
from serve.pictures.pictures import Pictures
from serve.pictures.signed_urls import SignedUrls
from serve.pictures.sources import Intake


@dataclass(frozen=True, slots=True)
class OpenAIServices:
    """One ingress process's; a synchronous call waits ``wait_timeout_s`` seconds at most."""

    models: ServedModels
    jobs: Jobs
    pictures: Pictures
    files: CheckedFiles
    intake: Intake
    sourcing: Sourcing
    signed_urls: SignedUrls
    drain: Drain
    wait_timeout_s: float
