"""Workloads: sequence lengths, arrival processes and trace files, all of which end in a `RequestTrace`."""

from ebatch_env.workloads.arrivals import AllAtOnce, Arrivals, GammaRenewal, Poisson, Replay
from ebatch_env.workloads.catalogue import CATALOGUE, resolve_workload, workload_names
from ebatch_env.workloads.empirical import Empirical
from ebatch_env.workloads.files import at_rate, read_azure, read_csv, read_trace, write_csv
from ebatch_env.workloads.lengths import Fixed, Geometric, Lengths, Table, Uniform
from ebatch_env.workloads.modulated import MMPP, Diurnal
from ebatch_env.workloads.workload import TraceWorkload, Workload, WorkloadLike

__all__ = [
    "CATALOGUE",
    "MMPP",
    "AllAtOnce",
    "Arrivals",
    "Diurnal",
    "Empirical",
    "Fixed",
    "GammaRenewal",
    "Geometric",
    "Lengths",
    "Poisson",
    "Replay",
    "Table",
    "TraceWorkload",
    "Uniform",
    "Workload",
    "WorkloadLike",
    "at_rate",
    "read_azure",
    "read_csv",
    "read_trace",
    "resolve_workload",
    "workload_names",
    "write_csv",
]
