"""Does the imagined arm go where the action says? The section of a world's page that shows it."""

from collections.abc import Sequence

from w4rl_fast.data.episode import EpisodeInfo
from w4rl_fast.report.chart import Series, bar_chart
from w4rl_fast.report.figures import NOTHING, decimal, number
from w4rl_fast.report.film import encode_trial
from w4rl_fast.report.page import Section, films, picture, row, table
from w4rl_fast.truth.response import ActionResponse, KindResponse
from w4rl_fast.truth.trials import Trials

SHOWN = 4
"""Episodes of which the other actions are shown."""
KINDS = {"true": "their own", "shuffled": "another episode's", "zero": "none", "mirrored": "mirrored"}
AXES = tuple("xyz")


def action_response(
    response: ActionResponse, imagined: Trials, simulated: Trials | None, infos: Sequence[EpisodeInfo]
) -> Section:
    """Whether the arm goes where the action says."""
    said = f"The same {response.episodes} starts and the same noise under other actions, over {response.steps} steps."
    axes = [["imagined against recorded hand, own actions", *map(decimal, response.correlation)],
            ["under another episode's actions, against that episode", *map(decimal, response.shuffled)],
            ["the same, against the episode's own: what ignoring scores", *map(decimal, response.ignored)]]  # fmt: skip
    recorded = table(["correlation of displacement", *AXES], axes)
    if simulated is None:
        return Section("Does the arm obey?", f"{said} The simulator was not asked: {response.simulator}", recorded)
    said += (
        " The simulator was given the very same actions from the very same starts. Response is the share of what these"
        " actions change in the simulator, against the episode's own, that is imagined too: 1 for a world that obeys, 0"
        " for one that ignores actions. Pixels follow where each of the two last imagined pictures, under these and"
        " under the episode's own actions, is nearer to the simulator's picture of the same actions than to the other."
    )
    kinds = response.kinds
    distances = bar_chart(
        [KINDS[kind] for kind in kinds],
        [
            Series("imagined", [each.imagined_cm for each in kinds.values()], "c0"),
            Series("simulator", [each.simulated_cm for each in kinds.values()], "c1"),
        ],
        title="How far the hand moves", unit="cm, mean, by actions",
    )  # fmt: skip
    errors = bar_chart(
        [KINDS[kind] for kind in kinds],
        [Series("imagined against simulator", [each.error_cm for each in kinds.values()], "c2")],
        title="Imagined against simulated hand", unit="cm apart, median",
    )  # fmt: skip
    pictures = films(show_trial(imagined, simulated, number, info) for number, info in enumerate(infos[:SHOWN]))
    body = row(distances, errors) + hand_table(kinds) + picture_table(kinds) + pictures + recorded
    return Section("Does the arm obey?", said, body)


def hand_table(kinds: dict[str, KindResponse]) -> str:
    head = [
        "hand, under actions",
        "imagined",
        "simulator",
        "ratio",
        "error",
        "response",
        *(f"corr. {axis}" for axis in AXES),
    ]
    rows = []
    for kind, each in kinds.items():
        moves = (f"{each.imagined_cm:.1f} cm", f"{each.simulated_cm:.1f} cm", number(each.ratio, 2))
        axes = map(decimal, each.correlation)
        rows.append([KINDS[kind], *moves, f"{each.error_cm:.1f} cm", decimal(each.response), *axes])
    return table(head, rows)


def picture_table(kinds: dict[str, KindResponse]) -> str:
    head = ["last picture, moving pixels", "against the simulator's", "against that of their own actions",
            "pixels follow"]  # fmt: skip
    rows = []
    for kind, each in kinds.items():
        share = each.pixels_follow
        follow = f"{share.successes} of {share.episodes}" if share else NOTHING
        own, true = number(each.psnr_moving, 1, " dB"), number(each.psnr_moving_true, 1, " dB")
        rows.append([KINDS[kind], own, true, follow])
    return table(head, rows)


def show_trial(imagined: Trials, simulated: Trials, episode: int, info: EpisodeInfo) -> str:
    title, note = (
        f"{info.source}, seed {info.seed}",
        f"the simulator above, imagined below; actions: {', '.join(KINDS.values())}",
    )
    return picture(encode_trial(imagined, simulated, episode), title, note, width=440)
