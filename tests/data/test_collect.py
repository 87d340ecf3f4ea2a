"""Collecting in several processes, whatever becomes of them."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("metaworld")

from w4rl_fast.data.actors import Disturbed, Expert, Player, Random
from w4rl_fast.data.check import check_store
from w4rl_fast.data.collect import CollectConfig, Done, Worker, collect
from w4rl_fast.data.episode import SOURCES
from w4rl_fast.data.record import SEED_LIMIT, TUNING_SEED, Job, episode_seed, record_episode
from w4rl_fast.data.store import Store
from w4rl_fast.errors import MissingExtra, UserError
from w4rl_fast.tasks import Observation, default_config, make_task

TASK = replace(default_config("metaworld/reach-v3", image_size=8), horizon=3, action_repeat=1)
LONG = replace(TASK, horizon=40)


def recorded(config, *tasks):
    """What a collection should hold, recorded here one after the other."""
    factories = {
        "random": Random,
        "expert": Expert,
        "play": Player,
        "noisy": lambda: Disturbed(Expert(), config.noise, config.bias),
    }
    episodes = {}
    for settings in tasks:
        task = make_task(settings)
        for job in config.jobs(settings.name):
            episodes[job.key] = record_episode(task, factories[job.source](), job)
        task.close()
    return episodes


def check_holds(path, expected, same_episode):
    store = Store(path)
    assert store.keys == sorted(expected)
    assert all(same_episode(store.read(number), expected[key]) for number, key in enumerate(store.keys))
    assert not check_store(path).damage
    assert not list((path / "pending").iterdir())


# ---- seeds and names


def test_no_two_episodes_share_a_seed_and_none_reaches_those_of_evaluation():
    numbers = [0, 1, 2, 1000, 2**16, 2**17 - 1]
    seeds = [episode_seed(seed, source, n) for seed in (0, 1, 5, SEED_LIMIT - 1) for source in SOURCES for n in numbers]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert max(seeds) < TUNING_SEED < 2**30


@pytest.mark.parametrize(("seed", "number"), [(-1, 0), (SEED_LIMIT, 0), (10**9, 0), (0, 2**17)])
def test_a_seed_or_number_that_would_collide_is_refused(seed, number):
    with pytest.raises(UserError, match="--seed"):
        episode_seed(seed, "expert", number)


def test_jobs_have_names_of_their_own():
    jobs = [
        job
        for task in ("metaworld/reach-v3", "metaworld/push-v3")
        for settings in ({}, {"noise": 0.4}, {"bias": 0.1}, {"seed": 3})
        for policy in ("aaaa", "bbbb")
        for job in CollectConfig(expert=3, noisy=3, random=3, rollouts=3, **settings).jobs(task, policy)
    ]
    # Of a task and source: two seeds of experts and of random motion, three disturbances of one and one of the other
    # of the noisy expert, and all of these for both policies; three episodes each.
    assert len({job.key for job in jobs}) == 2 * 3 * (2 + 2 + 4 + 2 * 4)
    assert {job.source for job in jobs if not job.origin} == {"expert", "random"}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"expert": -1},
        {"random": 1, "noisy": -3},
        {"expert": 1, "workers": 0},
        {"expert": 1, "workers": -2},
        {"expert": 1, "noise": -0.1},
        {"expert": 1, "bias": -0.1},
    ],
)
def test_a_collection_of_nothing_by_nobody_is_refused(values):
    with pytest.raises(ValueError, match=r"episodes|workers=|noise=.*bias="):
        CollectConfig(**values)


# ---- who moves the robot


class Still:
    """A task of four actions whose actor does nothing."""

    action_low = (-1.0,) * 4

    def begin(self, task, rng):
        pass

    def act(self, observation):
        return np.zeros(4, np.float32)


NOTHING = Observation(np.zeros((8, 8, 3), np.uint8), np.zeros(4, np.float32), False)


def actions_of(actor, seed, steps=60):
    actor.begin(Still(), np.random.default_rng(seed))
    return np.stack([actor.act(NOTHING) for _ in range(steps)])


def test_the_bias_is_one_offset_for_an_episode_and_another_for_the_next():
    episodes = [actions_of(Disturbed(Still(), noise=0.0, bias=0.2), seed) for seed in range(300)]
    assert all((actions == actions[0]).all() for actions in episodes)
    offsets = np.stack([actions[0] for actions in episodes])
    assert len(np.unique(offsets, axis=0)) == 300
    assert offsets.std() == pytest.approx(0.2, rel=0.1)
    assert abs(offsets.mean()) < 0.03


def test_the_noise_of_an_episode_is_anything_up_to_the_largest():
    deviations = [actions_of(Disturbed(Still(), noise=0.3, bias=0.0), seed).std() for seed in range(200)]
    assert max(deviations) < 0.36
    assert min(deviations) < 0.03
    assert np.mean(deviations) == pytest.approx(0.15, rel=0.15)


def test_a_disturbed_action_stays_within_its_bounds():
    actions = actions_of(Disturbed(Still(), noise=3.0, bias=3.0), 0)
    assert np.abs(actions).max() == 1.0
    assert actions.dtype == np.float32


def test_random_actions_are_held_for_one_to_three_steps():
    actions = actions_of(Random(), 0, steps=3000)
    assert np.abs(actions).max() <= 1
    changes = np.flatnonzero((np.diff(actions, axis=0) != 0).any(axis=1))
    assert set(np.diff(changes)) == {1, 2, 3}
    assert np.abs(actions.mean(axis=0)).max() < 0.08
    assert actions.std(axis=0) == pytest.approx(np.full(4, 1 / np.sqrt(3)), rel=0.1)


# ---- one episode


def test_an_episode_is_what_was_seen_and_sent():
    task = make_task(TASK)
    seen, sent = [], []

    class Watching(Random):
        def act(self, observation):
            seen.append(observation)
            sent.append(super().act(observation))
            return sent[-1]

    episode = record_episode(task, Watching(), Job(task=TASK.name, source="random", seed=5))
    assert len(episode) == TASK.horizon + 1
    np.testing.assert_array_equal(episode.actions, [*sent, np.zeros(4)])
    np.testing.assert_array_equal(episode.frames[:-1], [each.frame for each in seen])
    np.testing.assert_array_equal(episode.proprio[:-1], [each.proprio for each in seen])
    assert (episode.info.task, episode.info.source, episode.info.seed) == (TASK.name, "random", 5)
    assert episode.info.succeeded == task.succeeded


def test_a_job_is_an_episode_bit_for_bit_and_another_job_another(same_episode):
    task = make_task(TASK)
    job = Job(task=TASK.name, source="noisy", seed=5, origin="noise=0.5 bias=0.1")
    first = record_episode(task, Disturbed(Expert(), 0.5, 0.1), job)
    record_episode(task, Random(), Job(task=TASK.name, source="random", seed=6))
    assert same_episode(record_episode(make_task(TASK), Disturbed(Expert(), 0.5, 0.1), job), first)
    other = record_episode(task, Disturbed(Expert(), 0.5, 0.1), replace(job, origin="noise=0.5 bias=0.2"))
    np.testing.assert_array_equal(other.frames[0], first.frames[0])
    assert (other.actions != first.actions).any()


def test_without_noise_and_bias_the_disturbed_expert_is_the_expert():
    task = make_task(LONG)
    job = Job(task=TASK.name, source="expert", seed=9)
    plain = record_episode(task, Expert(), job)
    disturbed = record_episode(task, Disturbed(Expert(), 0.0, 0.0), replace(job, source="noisy"))
    np.testing.assert_array_equal(plain.actions, disturbed.actions)
    np.testing.assert_array_equal(plain.frames, disturbed.frames)


# ---- many episodes


def run_here(jobs, tasks, config, actor, out):
    yield from map(Worker(tasks, config, actor, out / "pending").run, jobs)


def test_it_does_not_matter_how_many_work_or_when_the_rest_is_asked_for(tmp_path, same_episode, monkeypatch):
    """Two workers on a part, then this process on the rest, is what one process records at once."""
    tasks = [TASK, replace(TASK, name="metaworld/push-v3")]
    config = CollectConfig(expert=5, noisy=3, random=2, bias=0.1, seed=7)
    first = collect(tmp_path / "store", tasks, replace(config, expert=2, noisy=1, workers=2))
    assert (first.before, first.added) == (0, 10)
    monkeypatch.setattr("w4rl_fast.data.collect.run", run_here)
    second = collect(tmp_path / "store", tasks, config)
    assert (second.before, second.added) == (10, 10)
    expected = recorded(config, *tasks)
    check_holds(tmp_path / "store", expected, same_episode)
    third = collect(tmp_path / "store", tasks, config)
    assert (third.before, third.added, third.rows) == (20, 0, 0)
    succeeded = sum(episode.info.succeeded for episode in expected.values())
    assert (first.succeeded + second.succeeded).total() == succeeded
    assert (first.episodes + second.episodes)["metaworld/push-v3", "noisy"] == 3


def test_play_is_collected_bit_for_bit_again(tmp_path, same_episode):
    """By two workers, by one, and here; its landmarks with it."""
    pytest.importorskip("pymunk")
    task, config = replace(default_config("push-t", image_size=8), horizon=12), CollectConfig(play=6)
    for workers in (2, 1):
        collect(tmp_path / str(workers), [task], replace(config, workers=workers))
        check_holds(tmp_path / str(workers), recorded(config, task), same_episode)
    episode = Store(tmp_path / "2").read(0)
    assert (episode.info.source, episode.landmarks.shape) == ("play", (13, 8))
    assert np.ptp(episode.landmarks, axis=0).any() or np.ptp(episode.proprio, axis=0).any()


def test_nobody_plays_in_metaworld(tmp_path):
    with pytest.raises(UserError, match="nobody plays"):
        collect(tmp_path / "store", [TASK], CollectConfig(play=1))


def test_an_error_a_user_can_act_on_travels_between_processes_as_it_is():
    for error in (UserError("value", rule="rule", remedy="remedy"), MissingExtra("metaworld", extra="sim")):
        arrived = pickle.loads(pickle.dumps(error))
        assert type(arrived) is type(error)
        assert (str(arrived), arrived.__dict__) == (str(error), error.__dict__)


# ---- endings

COLLECT = """
import sys
import w4rl_fast.data.collect as collect
from w4rl_fast.cli import main

collect.SEAL_ROWS = int(sys.argv.pop(1))
main(prog_name="w4rl")
"""
COUNT = 160
ALL = CollectConfig(random=COUNT - 20, expert=20)


class Collection:
    """`w4rl collect` in a group of processes of its own, sealing every so many rows."""

    def __init__(self, path, environment, seal_rows=80):
        self.path = path
        settings = [f"--set=horizon={TASK.horizon}", f"--set=action_repeat={TASK.action_repeat}", "--size=8"]
        counts = [f"--random={ALL.random}", f"--expert={ALL.expert}", "--workers=2"]
        command = [sys.executable, "-c", COLLECT, str(seal_rows), "collect", TASK.name, *settings, *counts]
        self.process = subprocess.Popen(
            [*command, "--out", str(path)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def pending(self):
        return {file.name.removesuffix(".episode") for file in (self.path / "pending").glob("*.episode")}

    def finished(self):
        """How many episodes there are, sealed or pending; an episode may be both for a moment."""
        try:
            index = json.loads((self.path / "store.json").read_bytes())
        except OSError:
            return 0
        return len(self.pending()) + sum(segment["episodes"] for segment in index["segments"])

    def wait_for(self, count, patience=60):
        """Wait until so many episodes are finished; False if the collection ended before."""
        end = time.monotonic() + patience
        while self.finished() < count:
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < end, "the collection stands still"
            time.sleep(0.002)
        return True

    def workers(self):
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]

    def end(self, how):
        """End it in some way; returns exit code and stderr."""
        pid = self.process.pid
        if how == "worker":
            os.kill(self.workers()[0], signal.SIGKILL)
        elif how == "parent":
            os.kill(pid, signal.SIGKILL)
        elif how:
            os.killpg(pid, getattr(signal, how))
        try:
            self.reported, said = self.process.communicate(timeout=60)
        finally:
            if self.process.poll() is None:
                os.killpg(pid, signal.SIGKILL)
        return self.process.returncode, said


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids, patience=10):
    end = time.monotonic() + patience
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < end, "a worker outlives its parent"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def expected():
    return recorded(ALL, TASK)


def check_kept(path, seen, expected, same_episode):
    """Whatever was finished before the end is there, and nothing is damaged or half there."""
    if not (path / "store.json").exists():
        assert not seen
        return
    store = Store(path)
    assert seen <= set(store.keys) <= set(expected)
    rng = np.random.default_rng(len(store))
    for number in rng.permutation(len(store))[:30]:
        assert same_episode(store.read(number), expected[store.keys[number]])
    assert not check_store(path).damage


@pytest.mark.parametrize(
    "endings", [("SIGKILL",), pytest.param(("parent", "worker", "SIGKILL", "SIGINT"), marks=pytest.mark.slow)]
)
def test_a_collection_survives_every_ending(tmp_path, python_environment, expected, same_episode, endings):
    """One after the other on one store: group killed, parent killed, a worker killed, Ctrl-C; then it completes."""
    path, rng = tmp_path / "store", np.random.default_rng()
    for step, how in enumerate(endings):
        running = Collection(path, python_environment)
        assert running.wait_for(8 + 34 * step + int(rng.integers(24)))
        time.sleep(rng.uniform(0, 0.05))
        workers, seen = running.workers(), running.pending()
        assert len(workers) == 2
        code, said = running.end(how)
        wait_until_gone(workers)
        check_kept(path, seen, expected, same_episode)
        if how == "worker":
            assert code == 2
            (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
            assert "a collecting process died" in line
            assert "what was finished is kept" in line
        if how == "SIGINT":
            assert code == 130
            assert said.splitlines()[-1] == "interrupted; what was finished is kept"
            assert "episodes added" in running.reported
        if how in ("worker", "SIGINT"):
            assert "Traceback" not in said
            assert not list((path / "pending").iterdir()), "what was finished is sealed"
    assert len(Store(path)) < COUNT
    code, said = Collection(path, python_environment).end(None)
    assert code == 0, said
    check_holds(path, expected, same_episode)


def test_ctrl_c_before_the_first_episode_is_as_quiet(tmp_path, python_environment):
    """While the workers still start."""
    running = Collection(tmp_path / "store", python_environment)
    while not (tmp_path / "store" / "store.json").exists() or len(running.workers()) < 2:
        time.sleep(0.002)
    time.sleep(0.1)
    workers = running.workers()
    code, said = running.end("SIGINT")
    assert code == 130, said
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said
    wait_until_gone(workers)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "parent"])
def test_a_collection_killed_twenty_times_is_the_uninterrupted_one(
    tmp_path, python_environment, expected, same_episode, how
):
    """At random moments from the start of the first process on; a finished collection begins anew elsewhere."""
    rng = np.random.default_rng()
    rounds = 0
    path = tmp_path / "0"
    for kill in range(20):
        running = Collection(path, python_environment, seal_rows=80)
        seen = set()
        if kill % 4:  # most of them while it works, the others anywhere
            running.wait_for(min(running.finished() + int(rng.integers(1, 60)), COUNT))
        time.sleep(rng.uniform(0, 0.3 if kill % 4 else 2.5))
        seen = running.pending() if path.exists() else seen
        workers = running.workers() if running.process.poll() is None else []
        running.end(how)
        check_kept(path, seen, expected, same_episode)
        if path.exists() and running.finished() >= COUNT:
            wait_until_gone(workers)
            assert Collection(path, python_environment).end(None)[0] == 0
            check_holds(path, expected, same_episode)
            rounds += 1
            path = tmp_path / str(rounds)
    code, said = Collection(path, python_environment).end(None)
    assert code == 0, said
    check_holds(path, expected, same_episode)


def test_a_small_disk_ends_a_collection_with_one_line(small_disk, python_environment, expected, same_episode):
    """Every episode that was finished before the disk was full stays, and can be read."""
    (small_disk / "ballast").write_bytes(bytes(900_000))
    running = Collection(small_disk / "store", python_environment)
    code, said = running.end(None)
    assert code == 2, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "No space left on device" in errors[0]
    assert "Traceback" not in said
    check_kept(small_disk / "store", set(), expected, same_episode)
    assert 0 < len(Store(small_disk / "store")) < COUNT


def test_what_a_worker_says_is_small():
    """Frames stay where they were recorded; only a line goes back to the parent."""
    assert len(pickle.dumps(Done(Job(task="metaworld/reach-v3", source="expert", seed=1), 41, True))) < 500
