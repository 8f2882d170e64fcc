"""Every fault by the name that the schedule and the history give it."""

from __future__ import annotations

from loadtests.chaos.faults.fault import Fault, Load, Scene
from loadtests.chaos.faults.load import Overload, Redeploy, SilentReaders
from loadtests.chaos.faults.network import (
    BlackHoleDatabase,
    CutClients,
    CutDatabase,
    DropCommits,
    ResetDatabase,
    ResetValkey,
    SlowDatabase,
    StallDatabase,
)
from loadtests.chaos.faults.processes import (
    FreezeController,
    FreezeDiffusion,
    FreezeIngress,
    FreezePostprocess,
    FreezeProxy,
    KillController,
    KillDiffusion,
    KillIngress,
    KillPostprocess,
    KillProxy,
)
from loadtests.chaos.faults.servers import (
    FlushValkey,
    FreezeValkey,
    PromoteStandby,
    ReadOnlyDatabase,
    RestartValkey,
    StopPostgres,
)
from loadtests.chaos.faults.storage import FillStorage
from loadtests.chaos.faults.versions import NewerRows

__all__ = ["FAULTS", "Fault", "Load", "Scene"]

FAULTS: dict[str, type[Fault]] = {
    "kill-diffusion": KillDiffusion,
    "kill-postprocess": KillPostprocess,
    "kill-ingress": KillIngress,
    "kill-proxy": KillProxy,
    "kill-controller": KillController,
    "freeze-diffusion": FreezeDiffusion,
    "freeze-postprocess": FreezePostprocess,
    "freeze-ingress": FreezeIngress,
    "freeze-proxy": FreezeProxy,
    "freeze-controller": FreezeController,
    "restart-valkey": RestartValkey,
    "flush-valkey": FlushValkey,
    "freeze-valkey": FreezeValkey,
    "reset-valkey": ResetValkey,
    "stop-postgres": StopPostgres,
    "promote-standby": PromoteStandby,
    "read-only-database": ReadOnlyDatabase,
    "slow-database": SlowDatabase,
    "stall-database": StallDatabase,
    "reset-database": ResetDatabase,
    "black-hole-database": BlackHoleDatabase,
    "cut-database": CutDatabase,
    "drop-commits": DropCommits,
    "cut-clients": CutClients,
    "fill-storage": FillStorage,
    "silent-readers": SilentReaders,
    "overload": Overload,
    "redeploy": Redeploy,
    "newer-rows": NewerRows,
}
