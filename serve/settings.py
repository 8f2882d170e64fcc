"""Every setting, with its meaning below it.

They are read once: from the environment, and from the YAML file that ``SFUMATO_CONFIG`` names.
Sections nest by two underscores: ``SFUMATO_MODEL__PATH``, ``SFUMATO_WORKER__MAX_BATCH``.
``DATABASE_URL`` and ``REDIS_URL`` keep the names that every platform gives them. In the file the
same settings have the names of their fields.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pipelines.diffusion.speed.acceleration import Acceleration, AttentionBackend, Float8, Use
from pipelines.embedded import MODEL_PATH
from serve.config_file import read_config_file
from serve.database_url import DatabaseUrl

_ANSWER_S = 30.0
"""The part of a synchronous call that is no waiting: moderation, and sending the answer."""
_DAY_S = 86_400.0
_YEAR_S = 366 * _DAY_S

HEARTBEATS_PER_LEASE = 3
"""At least so many, since two may come late or never."""
INGRESS_CPUS = 0.25
POSTPROCESS_CPUS = 0.25
"""Ray CPUs of one replica."""
DEFAULT_POOL = "default"
"""The name of the one pool where none is set."""

ZeroToAnHour = Annotated[float, Field(ge=0, le=3600)]
UpToAnHour = Annotated[float, Field(gt=0, le=3600)]
ZeroToADay = Annotated[float, Field(ge=0, le=_DAY_S)]
UpToADay = Annotated[float, Field(gt=0, le=_DAY_S)]
UpToAYear = Annotated[float, Field(gt=0, le=_YEAR_S)]
Days = Annotated[float, Field(gt=0, le=3660)]
Limit = Annotated[float, Field(ge=0, le=1e12)]
Replicas = Annotated[int, Field(ge=1, le=10_000)]
UpToAThousand = Annotated[int, Field(ge=1, le=1000)]


def _model_name(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("a name has printable characters alone, and no blank at either end")
    return text


def _key(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", secret.get_secret_value()):
        raise ValueError(
            "a key has ASCII characters alone, and neither a blank nor a line break at either end:"
            " no header carries others"
        )
    return secret


def _database_url(secret: SecretStr) -> SecretStr:
    DatabaseUrl.parse(secret.get_secret_value())
    return secret


def _redis_url(secret: SecretStr) -> SecretStr:
    cure = "give a URL like `redis://host:6379`"
    try:
        _ = urlsplit(secret.get_secret_value()).port
    except ValueError as error:
        raise ValueError(f"{cure} ({error})") from error
    if not secret.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError(cure)
    return secret


def _sentry_dsn(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"https?://[^@/\s]+@[^@/\s]+(/[^/\s]+)*/\d+", secret.get_secret_value()):
        raise ValueError("give a DSN as Sentry shows it, like `https://key@sentry.example/1`")
    return secret


def _buckets(rows: tuple[int, ...]) -> tuple[int, ...]:
    if not rows or list(rows) != sorted({each for each in rows if each > 0}):
        raise ValueError("give numbers of rows from 1 on, each larger than the one before")
    return rows


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://[a-z0-9.\-\[\]:]+", text.lower()):
        raise ValueError("an origin is like `https://app.example:8443`, without a path")
    return text.lower()


def _pool_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", text):
        raise ValueError(
            "a pool's name has up to 40 lower-case letters, digits and hyphens, no hyphen at an end"
        )
    return text


def _gpus(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("give a fraction of one GPU, or a whole number of them")
    return gpus


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_model_name)]
PoolName = Annotated[str, AfterValidator(_pool_name)]
Gpus = Annotated[float, Field(ge=0, le=1000), AfterValidator(_gpus)]
Cpus = Annotated[float, Field(ge=0, le=10_000)]
Batch = Annotated[int, Field(ge=1, le=1024)]


class Section(BaseModel):
    # Neither infinity nor NaN: no bound, timer or sleep can be one of them.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class FurtherModelSettings(Section):
    """A model that is served beside the default one, under its key in ``SFUMATO_MODELS``."""

    path: str = Field(min_length=1)
    """A diffusers folder, or a hub id."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$")
    """`auto`, `cpu`, `cuda` or `cuda:1`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` takes bfloat16 where the device computes in it."""
    default_steps: UpToAThousand = 20
    """Denoising steps where none are asked."""
    max_steps: UpToAThousand = 150
    """The most denoising steps of one picture."""
    default_guidance_scale: float = Field(3.0, ge=0, le=1000)
    """Guidance where none is asked."""
    max_pixels: int = Field(1024 * 1024, ge=64, le=2**28)
    """The most pixels of one picture."""
    loras: dict[str, Path] = {}
    """LoRA files by name, as JSON: `{"ink": "ink.safetensors"}`."""
    controlnets: dict[str, Path] = {}
    """ControlNet folders by name, as JSON."""
    aliases: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Other names of it that requests may give, as JSON: `["dall-e-3"]`."""

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.default_steps > self.max_steps:
            raise ValueError(
                f"DEFAULT_STEPS ({self.default_steps}) is above MAX_STEPS ({self.max_steps}): raise"
                " the latter, or lower the former"
            )
        return self


class ModelSettings(FurtherModelSettings):
    """The default model: what it is called, and on what it runs."""

    name: Name = "sfumato-embedded"
    """The name that clients ask for."""
    path: str = Field(str(MODEL_PATH), min_length=1)
    """A diffusers folder, or a hub id."""


class SpeedSettings(Section):
    """What is asked of the hardware; `docs/decisions/0011-acceleration.md` says what `auto` is."""

    attention: AttentionBackend = AttentionBackend.AUTO
    """`auto`, `sdpa`, `xformers` or `flash3`."""
    channels_last: Use = Use.AUTO
    """`auto`, `always` or `never`: the denoiser's memory format."""
    vae_channels_last: Use = Use.AUTO
    """The same for the VAE's."""
    compile: Use = Use.AUTO
    """torch.compile, block by block."""
    cuda_graphs: Use = Use.AUTO
    """Captured passes, one a bucket and size."""
    batch_buckets: Annotated[tuple[int, ...], AfterValidator(_buckets)] = (1, 2, 3, 4, 6, 8, 12, 16)
    """Rows that passes are compiled or captured for, as JSON."""
    decode_stream: Use = Use.AUTO
    """Decoding beside the steps, on CUDA."""
    vae_tiling: Use = Use.AUTO
    """In tiles; `auto` where memory is short."""
    vae_memory_bytes: int | None = Field(None, ge=0)
    """What a decoding may take; unset, what is free on a GPU."""
    prompt_cache_bytes: int = Field(64 * 2**20, ge=0)
    """Kept prompt embeddings; 0 for none."""
    float8: Float8 = Float8.NEVER
    """`never`, `weights` or `dynamic` by torchao; lossy."""

    @property
    def acceleration(self) -> Acceleration:
        return Acceleration(**dict(self))


class WorkerSettings(Section):
    """How a diffusion replica claims work and keeps its lease."""

    max_batch: Batch = 8
    """Pictures that share a denoising step at most."""
    spare: int | None = Field(None, ge=0, le=10_000)
    """Pictures held beyond a step, to choose from; unset, as many as in a step."""
    threads: int = Field(0, ge=0, le=1024)
    """CPU threads of the engine; 0 for as many as pay at the start."""
    niceness: int = Field(0, ge=0, le=19)
    """How far drawing on a CPU gives way to answering requests."""
    preview_every: int = Field(4, ge=0, le=1000)
    """Denoising steps between previews; 0 for none."""
    heartbeat_s: UpToADay = 3.0
    """Seconds between heartbeats."""
    lease_s: UpToADay = 15.0
    """Silence after which a replica's work is taken; three heartbeats or more."""
    poll_s: UpToAnHour = 1.0
    """Seconds between looks for work without a hint."""
    drain_s: ZeroToADay = 30.0
    """Time to finish calls and claimed pictures at shutdown."""
    store_tries: int = Field(4, ge=1, le=100)
    """Tries to store a picture before its job fails."""
    store_timeout_s: UpToADay = 60.0
    """Longest such try."""
    model_bytes: int | None = Field(None, ge=0)
    """What the loaded models' weights may take; unset, all stay."""

    @model_validator(mode="after")
    def _lease_outlasts_heartbeats(self) -> Self:
        if self.lease_s < HEARTBEATS_PER_LEASE * self.heartbeat_s:
            raise ValueError(
                f"SFUMATO_WORKER__LEASE_S is {self.lease_s:g} and SFUMATO_WORKER__HEARTBEAT_S is"
                f" {self.heartbeat_s:g}: one late heartbeat would cost a replica its work. Raise"
                f" SFUMATO_WORKER__LEASE_S to {HEARTBEATS_PER_LEASE * self.heartbeat_s:g} or more,"
                " or lower SFUMATO_WORKER__HEARTBEAT_S to"
                f" {self.lease_s / HEARTBEATS_PER_LEASE:g} or less"
            )
        return self


class JobSettings(Section):
    """What a job may ask for, and how its end is kept."""

    max_images: UpToAThousand = 10
    """Pictures of one job at most."""
    max_prompt_chars: int = Field(4000, ge=1, le=1_000_000)
    """Characters of a prompt at most."""
    max_crashes: UpToAThousand = 3
    """Lost leases after which a picture fails."""
    reap_every_s: UpToAnHour = 2.0
    """Seconds between the reaper's rounds."""
    sweep_every_s: float = Field(3600.0, ge=0, le=_YEAR_S)
    """Seconds between sweeps of orphaned files; 0 for none."""
    orphan_age_s: float = Field(_DAY_S, ge=600, le=10 * _YEAR_S)
    """Age from which a file that no picture names is deleted."""
    max_wait_s: UpToAYear = 600.0
    """Predicted wait for a job's turn above which it is refused with 429."""
    wait_timeout_s: UpToADay = 300.0
    """Longest wait of a synchronous call."""

    @property
    def unread_wait_s(self) -> float:
        """How long a job waits for a worker that can read it: a newer one would have begun it.

        Half as long again as the longest predicted wait of a job that is let in.
        """
        return 1.5 * self.max_wait_s


class LimitSettings(Section):
    """What holds for each tenant for which nothing else is set; of numbers, 0 is no limit."""

    requests_per_minute: Limit = 0
    """Requests that change something; so many at once as well."""
    gpu_seconds_per_minute: Limit = 0
    """Predicted GPU seconds of the jobs that are accepted in a minute."""
    gpu_seconds_burst: Limit = 0
    """So many of them at once; 0 for a minute's worth."""
    gpu_seconds_per_month: Limit = 0
    """Predicted GPU seconds of a calendar month in UTC."""
    withhold_prompts: bool = False
    """Whether files of pictures leave out their prompts."""


class WebhookSettings(Section):
    """How terminal events reach subscribers, and how long what became of them is kept."""

    max_per_tenant: int = Field(10, ge=0, le=10_000)
    """Webhooks of one tenant at most."""
    attempts: int = Field(8, ge=1, le=16)
    """Tries of a delivery before it is dead."""
    first_delay_s: UpToADay = 5.0
    """Longest wait before the second try; each further one is fourfold."""
    timeout_s: UpToAnHour = 10.0
    """Longest wait for a receiver's answer."""
    concurrency: UpToAThousand = 16
    """Deliveries of one ingress at a time."""
    poll_s: UpToAnHour = 1.0
    """Seconds between looks for due deliveries."""
    keep_days: Days = 7.0
    """Days that a delivered one stays listed."""
    keep_dead_days: Days = 30.0
    """Days that a dead one can be tried again."""
    allow_private: bool = False
    """Whether plain http and addresses that are not public are allowed."""


class DatabaseSettings(Section):
    """How long Postgres is waited for."""

    connect_timeout_s: UpToAnHour = 5.0
    """Longest wait for a connection; `connect_timeout` in the URL counts."""
    command_timeout_s: UpToAnHour = 6.0
    """Longest wait for an answer; then its connection is given up."""
    statement_timeout_s: ZeroToAnHour = 5.0
    """Longest statement, by Postgres' own clock; 0 for any, as where a pooler refuses start-up
    parameters."""
    idle_timeout_s: ZeroToAnHour = 10.0
    """Longest pause within a transaction, likewise; 0 for any."""

    @model_validator(mode="after")
    def _postgres_gives_up_first(self) -> DatabaseSettings:
        if self.statement_timeout_s >= self.command_timeout_s:
            raise ValueError(
                "SFUMATO_DATABASE__STATEMENT_TIMEOUT_S must be less than"
                " SFUMATO_DATABASE__COMMAND_TIMEOUT_S: a slow statement is no lost connection."
            )
        return self

    @property
    def unhurried(self) -> DatabaseSettings:
        """The same for what may take minutes: migrations, sweeps."""
        patient = {"command_timeout_s": 600.0, "statement_timeout_s": 0.0, "idle_timeout_s": 0.0}
        return self.model_copy(update=patient)


class ModerationSettings(Section):
    """What may not be asked for, and what may not be kept."""

    blocklist: Path | None = None
    """File of words, phrases and `/patterns/` that no prompt may hold."""
    classifier: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`package.module:Class` that judges prompts and pictures."""
    timeout_s: UpToAnHour = 5.0
    """Longest judgement of the classifier's."""
    on_failure: Literal["refuse", "allow"] = "refuse"
    """`refuse` or `allow` what the classifier failed to judge."""
    safety_checker: bool = True
    """Whether a model's own safety checker judges pictures, where it has one."""
    unjudged_previews: bool = False
    """Whether previews are shown of pictures that are yet to be judged."""

    def hides_previews(self, *, checked: bool) -> bool:
        """Of a model that has a safety checker (``checked``) or none."""
        judged = self.classifier is not None or (checked and self.safety_checker)
        return judged and not self.unjudged_previews


class CredentialSettings(Section):
    """Signatures in files that say where a picture is from (C2PA)."""

    enabled: bool = False
    """Whether pictures' files are signed."""
    certificate: Path | None = None
    """PEM file of the certificate, followed by its issuers'; unset, a self-made one in the data
    folder."""
    private_key: Path | None = None
    """PEM file of the certificate's key, without a password."""
    trust: Path | None = None
    """PEM file of issuers whose pictures `verify` trusts, beside this service's own."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError(
                "a certificate signs with its key: give `certificate` and `private_key`, or neither"
            )
        return self


class TrendSettings(Section):
    """What is told of prompts' words."""

    k: int = Field(5, ge=2, le=1_000_000)
    """Tenants that must have asked for a term before others are told of it."""
    keep_days: int = Field(90, ge=35, le=36_500)
    """Days that counts are kept; `7d` compares with the four weeks before."""


class ArtistSettings(Section):
    """What the server draws by itself, and how it writes prompts."""

    enabled: bool = False
    """Whether it draws on a schedule; on demand it always does."""
    every_s: float = Field(600.0, ge=1, le=_YEAR_S)
    """Seconds from one scheduled job to the next, at least."""
    gpu_seconds_per_day: float = Field(600.0, ge=0, le=1e9)
    """Predicted device seconds that scheduled jobs may cost in any 24 hours."""
    models: tuple[Name, ...] = ()
    """What scheduled jobs draw with, by chance, as JSON; the default model where left out."""
    themes: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    """What scheduled jobs are about, by chance, as JSON; anything where left out."""
    exploration: float = Field(0.25, ge=0, le=1)
    """Share of a prompt's choices that leave trends out."""
    window_days: Days = 30.0
    """Days within which a tenant's autonomous jobs never have the same prompt."""
    grammars: dict[Name, Path] = {}
    """By model, a TOML file of what prompts are made of, as JSON."""


class ScalingSettings(Section):
    """Replica bounds that Ray Serve autoscales between, and what a replica reserves."""

    diffusion_min: int = Field(1, ge=0, le=10_000)
    """Diffusion replicas at least."""
    diffusion_max: Replicas = 1
    """Diffusion replicas at most."""
    diffusion_gpus: Gpus | None = None
    """GPUs of one diffusion replica; unset, one where Ray has GPUs, else none."""
    diffusion_cpus: Cpus = 0.5
    """Ray CPUs of one diffusion replica."""
    postprocess_min: Replicas = 1
    """Post-process replicas at least."""
    postprocess_max: Replicas = 2
    """Post-process replicas at most."""
    ingress_min: Replicas = 1
    """Ingress replicas at least."""
    ingress_max: Replicas = 2
    """Ingress replicas at most."""
    target_wait_s: UpToAYear = 10.0
    """Predicted seconds of backlog that one diffusion replica may hold."""
    upscale_delay_s: ZeroToADay = 5.0
    """Seconds of too few diffusion replicas before more are started."""
    downscale_delay_s: ZeroToADay = 120.0
    """Seconds of too many diffusion replicas before some are stopped."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        for kind in ("diffusion", "postprocess", "ingress"):
            least, most = getattr(self, f"{kind}_min"), getattr(self, f"{kind}_max")
            if least > most:
                name = f"SFUMATO_SCALING__{kind.upper()}"
                raise ValueError(
                    f"{name}_MIN is {least} and {name}_MAX is {most}: raise {name}_MAX to {least}"
                    f" or more, or lower {name}_MIN"
                )
        return self


class PoolSettings(Section):
    """A kind of diffusion replica, under its name in `pools`: which models, and on what."""

    models: tuple[Name, ...] = Field(min_length=1)
    """Models of its replicas; they draw a first picture with the first."""
    gpus: Gpus | None = None
    """GPUs of a replica; unset, as `scaling` has it."""
    cpus: Cpus | None = None
    """Ray CPUs of a replica; unset, as `scaling` has it."""
    accelerator: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,63}$")
    """Type of its GPUs as Ray names it, like `H100` or `L4`; unset, any."""
    min: int = Field(1, ge=0, le=10_000)
    """Replicas at least."""
    max: Replicas = 1
    """Replicas at most."""
    batch: Batch | None = None
    """Pictures that share a denoising step at most; unset, as `worker` has it."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(
                f"`min` is {self.min} and `max` is {self.max}: raise `max` to {self.min} or more,"
                " or lower `min`"
            )
        return self


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool with all that is known of it; ``gpus`` is None where Ray's own are to decide."""

    name: str
    models: tuple[str, ...]
    gpus: float | None
    cpus: float
    accelerator: str | None
    min: int
    max: int
    batch: int

    @property
    def at_first(self) -> int:
        """Replicas of a start: one at least, which shows that its model draws, and at what cost."""
        return max(1, self.min)


class HttpSettings(Section):
    """Who may connect from a browser, the bounds on what is sent, and this server's address."""

    allowed_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()
    """Origins, beside its own, whose pages may use the API (CORS) and open the WebSocket, as
    JSON."""
    max_body_bytes: int = Field(1024 * 1024, ge=1024, le=2**30)
    """The longest JSON body."""
    max_upload_bytes: int = Field(64 * 1024 * 1024, ge=1024, le=2**30)
    """The longest body that uploads pictures or a LoRA."""
    body_timeout_s: UpToADay = 60.0
    """Longest wait for a body to come whole."""
    max_sockets_per_address: int = Field(1000, ge=0, le=1_000_000)
    """WebSockets that an address may have at a proxy; 0 for any number, as where a terminator hides
    addresses. HAProxy does: behind it there is no such bound."""
    max_sockets_per_tenant: int = Field(5000, ge=1, le=1_000_000)
    """WebSockets that a tenant may have at an ingress replica."""
    public_url: str | None = Field(None, pattern=r"^https?://[^/?#]+(/[^?#]*)?$")
    """What this service's URLs begin with, where a proxy serves it below a path with that path;
    unset, what the client itself asked."""
    url_secret: SecretStr | None = Field(None, min_length=32)
    """Signs pictures' URLs; unset, a random one that the database keeps."""
    previous_url_secret: SecretStr | None = Field(None, min_length=32)
    """The URL secret before this one: its URLs still open until they end."""
    url_ttl_s: int = Field(3600, ge=1, le=int(10 * _YEAR_S))
    """Seconds that a picture's signed URL opens."""


class Settings(BaseSettings):
    """The whole configuration of a process."""

    model_config = SettingsConfigDict(
        env_prefix="SFUMATO_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
        hide_input_in_errors=True,  # keys and passwords are among it
        use_attribute_docstrings=True,
    )

    config: Path | None = None
    """YAML file of settings, which variables override; it is read at the start."""
    host: str = Field("127.0.0.1", min_length=1)
    """Address that HTTP listens on."""
    port: int = Field(8000, ge=1, le=65535)
    """Port that HTTP listens on."""
    haproxy: bool = False
    """Whether HAProxy takes the place of Serve's proxy in `sfumato up`; it comes with Ray on
    Linux."""
    dashboard: bool = True
    """Whether `sfumato up` starts Ray's dashboard, on this machine's loopback interface alone."""
    data_dir: Path = Path(".sfumato")
    """Folder of everything that is kept."""
    api_key: Annotated[SecretStr, AfterValidator(_key)] | None = Field(
        None, min_length=24, max_length=512
    )
    """A key of the first tenant, 24 characters or more; a new one ends the last."""
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = Field(
        None, validation_alias=AliasChoices("DATABASE_URL", "database_url")
    )
    """Postgres; unset, `sfumato up` starts one under the data folder."""
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        None, validation_alias=AliasChoices("REDIS_URL", "redis_url")
    )
    """Redis or Valkey; unset, `sfumato up` starts one under the data folder."""
    storage_url: str | None = Field(None, pattern=r"^(file://(localhost)?/.*|s3://[^/]+(/.*)?)$")
    """`file:///…` or `s3://bucket/prefix`; unset, a folder under the data."""
    storage_redirects: bool = False
    """Whether a picture's signed URL redirects to one of the bucket, so that the file itself does
    not pass through this service."""
    log_format: Literal["console", "json"] = "console"
    """Form of the log lines."""
    log_prompts: bool = False
    """Whether log lines may hold prompts; `[redacted]` stands for them else."""
    sentry_dsn: Annotated[SecretStr, AfterValidator(_sentry_dsn)] | None = Field(
        None, validation_alias=AliasChoices("SENTRY_DSN", "sentry_dsn")
    )
    """Sentry's address for unexpected errors; unset, none are sent."""
    sentry_environment: str | None = Field(
        None, validation_alias=AliasChoices("SENTRY_ENVIRONMENT", "sentry_environment")
    )
    """What Sentry calls this installation; unset, `production`."""
    sentry_traces_sample_rate: float | None = Field(
        None,
        ge=0,
        le=1,
        validation_alias=AliasChoices("SENTRY_TRACES_SAMPLE_RATE", "sentry_traces_sample_rate"),
    )
    """Share of the HTTP requests that Sentry times; unset, none. Where OpenTelemetry's traces are
    exported, Sentry times none."""
    model: ModelSettings = ModelSettings()
    models: dict[Name, FurtherModelSettings] = {}
    """Further models by name, as JSON: `{"sdxl": {"path": "/models/sdxl"}}`."""
    pools: dict[PoolName, PoolSettings] = {}
    """Kinds of diffusion replicas by name, as JSON: `{"small": {"models": ["sd15"], "max": 4}}`;
    unset, one kind for all models."""
    speed: SpeedSettings = SpeedSettings()
    worker: WorkerSettings = WorkerSettings()
    jobs: JobSettings = JobSettings()
    limits: LimitSettings = LimitSettings()
    webhooks: WebhookSettings = WebhookSettings()
    database: DatabaseSettings = DatabaseSettings()
    moderation: ModerationSettings = ModerationSettings()
    credentials: CredentialSettings = CredentialSettings()
    trends: TrendSettings = TrendSettings()
    artist: ArtistSettings = ArtistSettings()
    scaling: ScalingSettings = ScalingSettings()
    http: HttpSettings = HttpSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments override variables, and these override the file."""
        path = os.environ.get("SFUMATO_CONFIG")
        file = InitSettingsSource(settings_cls, read_config_file(Path(path)) if path else {})
        return init_settings, env_settings, file

    @model_validator(mode="after")
    def _names_differ(self) -> Settings:
        if self.model.name in self.models:
            raise ValueError(
                f"SFUMATO_MODELS holds {self.model.name!r}, which is what SFUMATO_MODEL__NAME"
                " calls the default model; rename one of them."
            )
        names = [*self.served, *(name for model in self.served.values() for name in model.aliases)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"{twice[0]!r} names two models, or one twice; take it out of one of the ALIASES."
            )
        return self

    @model_validator(mode="after")
    def _each_model_has_one_pool(self) -> Settings:
        pooled = [name for pool in self.pools.values() for name in pool.models]
        if unknown := [name for name in pooled if name not in self.served]:
            raise ValueError(
                f"SFUMATO_POOLS names {unknown[0]!r}, which is no model: add it to SFUMATO_MODELS,"
                f" or name one of {', '.join(self.served)}."
            )
        if twice := [name for name in pooled if pooled.count(name) > 1]:
            raise ValueError(
                f"SFUMATO_POOLS names {twice[0]!r} twice: leave it in one pool, and there once."
            )
        if self.pools and (left_out := [name for name in self.served if name not in pooled]):
            raise ValueError(
                f"SFUMATO_POOLS leaves out {left_out[0]!r}: add it to a pool's `models`."
            )
        return self

    def served_name(self, name: str) -> str:
        """The model's own name where the name is an alias of one; else the name itself."""
        served = self.served
        return next((own for own, model in served.items() if name in model.aliases), name)

    @property
    def sentry_times_requests(self) -> bool:
        """Whether Sentry gets a share of the requests' times."""
        return self.sentry_dsn is not None and bool(self.sentry_traces_sample_rate)

    @property
    def served(self) -> dict[str, FurtherModelSettings]:
        """Every model by name, the default one first."""
        return {self.model.name: self.model, **self.models}

    @property
    def served_pools(self) -> dict[str, Pool]:
        """Every pool by name; one of all models where none is set."""
        scaling = self.scaling
        if not self.pools:
            everything = PoolSettings(
                models=tuple(self.served), min=scaling.diffusion_min, max=scaling.diffusion_max
            )
            return {DEFAULT_POOL: self._pool(DEFAULT_POOL, everything)}
        return {name: self._pool(name, given) for name, given in self.pools.items()}

    def _pool(self, name: str, given: PoolSettings) -> Pool:
        scaling = self.scaling
        return Pool(
            name=name,
            models=given.models,
            gpus=scaling.diffusion_gpus if given.gpus is None else given.gpus,
            cpus=scaling.diffusion_cpus if given.cpus is None else given.cpus,
            accelerator=given.accelerator,
            min=given.min,
            max=given.max,
            batch=given.batch or self.worker.max_batch,
        )

    @property
    def pool_of(self) -> dict[str, str]:
        """The name of each model's pool."""
        return {model: pool.name for pool in self.served_pools.values() for model in pool.models}

    @property
    def least_cpus(self) -> float:
        """What the replicas of a start reserve."""
        scaling = self.scaling
        front = scaling.ingress_min * INGRESS_CPUS + scaling.postprocess_min * POSTPROCESS_CPUS
        return front + sum(pool.at_first * pool.cpus for pool in self.served_pools.values())

    @property
    def least_gpus(self) -> float:
        """The same of those whose GPUs are set."""
        return sum(pool.at_first * (pool.gpus or 0.0) for pool in self.served_pools.values())

    @property
    def longest_call_s(self) -> float:
        """Of a synchronous call: until its body has come, its pictures are done, and it has them.

        So long an ingress that is replaced stays for its calls.
        """
        return self.http.body_timeout_s + self.jobs.wait_timeout_s + _ANSWER_S

    @property
    def lora_folder(self) -> Path:
        """Where a replica keeps uploaded LoRAs that it has fetched."""
        return self.data_dir.resolve() / "loras"

    @property
    def storage(self) -> str:
        """URL of the picture store."""
        return self.storage_url or (self.data_dir.resolve() / "pictures").as_uri()
