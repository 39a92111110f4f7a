"""Runs a function in several processes that form torch.distributed's default group, over gloo."""

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed


def run_together(function: Callable[..., Any], number: int, folder: Path, *arguments: object) -> list[Any]:
    """Returns the results of `function(rank, number, *arguments)` in each of `number` processes, by rank.

    Args:
        function: of a module's top level; it returns what torch.save takes.
        number: of processes.
        folder: an empty one, for the rendezvous and the results.
    """
    # A server of its own, by spawn: the forkserver of multiprocessing keeps the environment of its first use, and a
    # later test's DataLoader would read its store with that.
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_of_rank, args=(function, rank, number, folder, arguments)) for rank in range(number)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=240)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * number, f"exit codes {codes}; None is a process that hung"
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(number)]


def _of_rank(function: Callable[..., Any], rank: int, number: int, folder: Path, arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=number,
        timeout=timedelta(seconds=60),
    )
    torch.save(function(rank, number, *arguments), folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
