"""Collecting 20 expert episodes of button-press-v3 at 64x64 on two workers: our renderers against Meta-World's own.

The loop is the same: seed, expert, 25 macro steps of five simulator steps, one frame each. Only `render` differs:
`ray` is ours, `gl` is MuJoCo's OpenGL without shadows, reflections and multisampling, `metaworld` is `env.render()`
of Meta-World at its defaults. Processes are started and warmed up before the clock starts. Beside the speed: the
share of rays whose first hit is the one of `mj_multiRay` against everything.
"""

import ctypes.util
import multiprocessing
import os
import time
from typing import Any

import numpy as np

from w4rl_fast.data.actors import Expert
from w4rl_fast.data.record import Job, record_episode
from w4rl_fast.measure import write_result
from w4rl_fast.tasks import default_config, make_task
from w4rl_fast.tasks.protocol import Frame

TASK, EPISODES, WORKERS, ROUNDS = "metaworld/button-press-v3", 20, 2, 3


def make(kind: str) -> Any:
    """The task with the renderer of that name."""
    config = default_config(TASK)
    if kind != "metaworld":
        from w4rl_fast.config import override

        return make_task(override(config, [f"renderer={kind}"]))
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    task: Any = make_task(config)
    env: Any = ALL_V3_ENVIRONMENTS["button-press-v3"](
        render_mode="rgb_array", camera_name="corner3", width=64, height=64
    )
    theirs = env.mujoco_renderer
    theirs.model, theirs.data = task._env.model, task._env.data

    def render(size: int) -> Frame:
        assert size == 64
        frame: Frame = theirs.render("rgb_array")
        return frame

    task.render = render
    return task


def work(kind: str, seeds: list[int], barrier: Any, answers: Any) -> None:
    """One worker: warm up, wait for the other, record."""
    task = make(kind)
    record_episode(task, Expert(), Job(task=TASK, source="expert", seed=99))
    barrier.wait()
    started = time.perf_counter()
    frames = sum(len(record_episode(task, Expert(), Job(task=TASK, source="expert", seed=seed))) for seed in seeds)
    answers.put((started, time.perf_counter(), frames))


def measure(kind: str) -> tuple[float, int]:
    """Seconds from the first start to the last end, and frames."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(WORKERS), context.SimpleQueue()
    seeds = [list(range(worker, EPISODES, WORKERS)) for worker in range(WORKERS)]
    workers = [context.Process(target=work, args=(kind, part, barrier, answers)) for part in seeds]
    for worker in workers:
        worker.start()
    results = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    return max(end for _, end, _ in results) - min(start for start, _, _ in results), sum(n for *_, n in results)


def agreement() -> float:
    """Share of rays, over one episode, whose first hit is MuJoCo's."""
    task: Any = make("ray")
    task.reset(0)
    act, shares = task.expert(), []
    for _ in range(task.config.horizon):
        task.step(act())
        renderer = task._renderers[task.config.image_size]
        hits, _ = renderer.hits(task._env.data)
        shares.append(float(np.mean(hits.geom == renderer.reference_hits(task._env.data).geom)))
    return float(np.mean(shares))


def stack() -> str | None:
    """The OpenGL stack of this machine, if it has one."""
    chosen = os.environ.get("MUJOCO_GL")
    found = [name for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if ctypes.util.find_library(library)]
    return chosen or next(iter(found), None)


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    kinds = ["ray"]
    if gl := stack():
        os.environ["MUJOCO_GL"] = gl
        kinds += ["gl", "metaworld"]
    else:
        print("no OpenGL stack here: only the ray renderer is timed")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    frames = 0
    for _ in range(ROUNDS):
        for kind in kinds:
            wall, frames = measure(kind)
            seconds[kind].append(wall)
            print(f"{kind:10s} {EPISODES} episodes in {wall:6.2f} s, {1e3 * wall * WORKERS / frames:6.2f} ms a frame")
    median = {kind: float(np.median(walls)) for kind, walls in seconds.items()}
    result = {
        "task": TASK,
        "episodes": EPISODES,
        "workers": WORKERS,
        "frames": frames,
        "opengl": gl,
        "seconds": seconds,
        "median_s": median,
        "speedup_over_metaworld": median["metaworld"] / median["ray"] if gl else None,
        "speedup_over_gl": median["gl"] / median["ray"] if gl else None,
        "hits_equal_to_mj_multiRay": agreement(),
    }
    write_result("collect", result)


if __name__ == "__main__":
    main()
