"""Serves one arm until SIGTERM: `python -m tests.robot.fci.serve --plant ideal`.

Prints {"event": "ready", "host": ...} when clients may connect and {"event": "summary", ...} at the end. On stdin it
takes one JSON object a line: fields of `Faults`, which hold from then on, and what happens once: `drop_commands` and
`drop_states` (so many of the next packets), `freeze_ms` (nothing runs, and the arm's clock stands), `die` (sockets
close).
"""

import argparse
import gc
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.robot.fci.checker import TICK_S, Limits
from tests.robot.fci.link import Link
from tests.robot.fci.loop import Loop
from tests.robot.fci.plant import READY, IdealPlant, ScenePlant
from tests.robot.fci.scenes import load
from tests.robot.fci.server import CheckingServer


def free_hosts() -> Iterator[str]:
    """Loopback addresses in an order that differs between processes."""
    order = random.Random(os.getpid())
    while True:
        yield f"127.{order.randint(64, 127)}.{order.randint(0, 255)}.{order.randint(1, 254)}"


def read_orders(loop: Loop) -> None:
    """Obey stdin, line by line; what is refused is told on stderr."""
    for line in sys.stdin:
        try:
            loop.take(json.loads(line))
        except (ValueError, TypeError) as error:
            print(f"refused {line.strip()}: {error}", file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", help="a 127.x.y.z address; a free one is taken without it")
    parser.add_argument("--plant", choices=("ideal", "scene"), default="ideal")
    parser.add_argument("--scene", default="franka/pick-apple", help="file.xml, franka/TASK or package.module:function")
    parser.add_argument("--site", default="", help="site of the scene that is reported as O_T_EE")
    parser.add_argument("--share", default="", help="name of the shared memory that the scene is published in")
    parser.add_argument("--q", type=float, nargs=7, default=READY, help="where the ideal arm rests, rad")
    parser.add_argument("--gripper", action="store_true", help="serve a hand too")
    parser.add_argument("--limits", type=json.loads, default={}, help="JSON of limits that differ from a Panda's")
    parser.add_argument("--faults", type=json.loads, default={}, help="JSON of what to inject from the start")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wait-ms", type=float, default=0.0, help="how long a tick waits for its answer; 0: real time")
    parser.add_argument("--json-log", type=Path, help="where reflexes, recoveries and the summary are written")
    return parser.parse_args()


def main() -> None:
    """Serve."""
    given = parse()
    if given.plant == "ideal":
        plant = IdealPlant(tuple(given.q), has_gripper=given.gripper)
    else:
        plant = ScenePlant(
            *load(given.scene, given.seed), has_gripper=given.gripper, share=given.share, site=given.site
        )
    log = open(given.json_log, "a", buffering=1) if given.json_log else None  # noqa: SIM115 - lives as long as we do

    def tell(event: dict, aloud: bool = False) -> None:
        for file in (log, sys.stdout if aloud else None):
            if file:
                print(json.dumps(event), file=file, flush=True)

    hosts = [given.host] if given.host else free_hosts()
    server = CheckingServer(plant, hosts, Limits(**given.limits), Link(given.seed), tell)
    server.init()
    loop = Loop(server, plant, given.wait_ms * TICK_S)
    loop.take(given.faults)
    signal.signal(signal.SIGTERM, lambda *_: loop.stop.set())
    threading.Thread(target=read_orders, args=(loop,), daemon=True).start()
    gc.freeze()
    tell({"event": "ready", "host": server.hostname}, aloud=True)
    loop.run()
    tell(loop.summary(), aloud=True)
    server.reset_state()
    server.cleanup()
    plant.close()


if __name__ == "__main__":
    main()
