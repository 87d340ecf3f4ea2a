"""The Franka Panda as MJCF: its Denavit-Hartenberg numbers, drawn and touched as capsules, boxes and cylinders.

Metres, radians, kilograms, seconds. The base stands at the origin on top of the table, x away from it, z upwards.
"""

from math import cos, pi, sin

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
HOME = (0.0, -pi / 4, 0.0, -3 * pi / 4, 0.0, pi / 2, pi / 4)
LOWER = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
UPPER = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
TORQUE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
STIFFNESS = (800.0, 800.0, 800.0, 800.0, 150.0, 150.0, 150.0)
DAMPING = (60.0, 60.0, 60.0, 60.0, 10.0, 10.0, 10.0)
"""What a position servo pulls with, N m / rad, and a velocity servo, N m s / rad: soft enough to run into a table."""
PUSH = 0.5
"""The share of its torque with which a joint pushes what stands in its way: a servo on a robot keeps to it as well."""

A = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
D = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
ALPHA = (0.0, -pi / 2, pi / 2, pi / 2, -pi / 2, pi / 2, pi / 2)
FLANGE = 0.107
HAND_TURN = -pi / 4
TCP = 0.1034
"""From the flange to the middle between the fingertips."""

OPEN = 0.08
POSITION, VELOCITY, GRIPPER = slice(0, 7), slice(7, 14), 14
"""Where the commands are among those of all actuators."""
TIMESTEP = 0.002

WHITE = "0.93 0.94 0.96 1"
DARK = "0.20 0.21 0.24 1"
ACCENT = "0.10 0.42 0.75 1"
LINKS = (
    f"""<geom class="arm" type="capsule" fromto="-0.08 0 0.06 0 0 0.06" size="0.065" rgba="{DARK}"/>
    <geom class="arm" type="cylinder" fromto="0 0 0.02 0 0 0.14" size="0.07" rgba="{WHITE}"/>""",
    f"""<geom class="arm" type="cylinder" fromto="0 0 -0.19 0 0 -0.05" size="0.062" mass="1.8" rgba="{WHITE}"/>
    <geom class="arm" type="capsule" fromto="0 -0.05 0 0 0.05 0" size="0.062" mass="1.8" rgba="{WHITE}"/>""",
    f"""<geom class="arm" type="capsule" fromto="0 0 -0.055 0 0 0.055" size="0.060" mass="1.6" rgba="{DARK}"/>
    <geom class="arm" type="capsule" fromto="0 -0.05 0 0 -0.19 0" size="0.060" mass="1.6" rgba="{WHITE}"/>""",
    f"""<geom class="arm" type="capsule" fromto="0 0 -0.11 0 0 -0.03" size="0.058" mass="1.4" rgba="{WHITE}"/>
    <geom class="arm" type="capsule" fromto="0.0825 -0.05 0 0.0825 0.05 0" size="0.055" mass="1.4" rgba="{WHITE}"/>""",
    f"""<geom class="arm" type="capsule" fromto="0 0 -0.05 0 0 0.05" size="0.054" mass="1.4" rgba="{DARK}"/>
    <geom class="arm" type="capsule" fromto="-0.0825 0.06 0 -0.0825 0.13 0" size="0.056" mass="1.4" rgba="{WHITE}"/>""",
    f"""<geom class="arm" type="capsule" fromto="0 0 -0.25 0 0.04 -0.10" size="0.052" mass="1.6" rgba="{WHITE}"/>
    <geom class="arm" type="capsule" fromto="0 0.03 -0.08 0 0 0" size="0.050" mass="1.2" rgba="{WHITE}"/>""",
    f"""<geom class="arm" type="capsule" fromto="0 0 -0.045 0 0 0.04" size="0.048" mass="0.8" rgba="{DARK}"/>
    <geom class="arm" type="capsule" fromto="0.03 0 0.01 0.088 0.01 0" size="0.045" mass="0.8" rgba="{WHITE}"/>""",
    f"""<geom class="arm" type="cylinder" fromto="0 0 0.02 0 0 0.085" size="0.044" mass="0.5" rgba="{WHITE}"/>
    <geom class="arm" type="cylinder" fromto="0 0 0.085 0 0 0.107" size="0.040" mass="0.2" rgba="{ACCENT}"/>""",
)
"""The shapes of link0 to link7, each in the frame of its joint."""

HAND = f"""<geom class="arm" type="box" pos="0 0 0.033" size="0.030 0.100 0.031" mass="0.65" rgba="{WHITE}"/>
    <site name="tcp" pos="0 0 {TCP}" size="0.005" group="4"/>"""
FINGER = f"""<geom class="arm" type="box" pos="0 0.014 0.012" size="0.010 0.009 0.020" mass="0.05" rgba="{DARK}"/>
    <geom class="pad" type="box" pos="0 0.006 0.0405" size="0.010 0.006 0.0155" mass="0.03" rgba="{DARK}"/>"""


def arm_xml() -> str:
    """The body of the arm, from `link0` to the fingers."""
    tree = hand_xml()
    for i in range(7, 0, -1):
        c, s = cos(ALPHA[i - 1]), sin(ALPHA[i - 1])
        where = f"{A[i - 1]!r} {-s * D[i - 1]!r} {c * D[i - 1]!r}"
        turn = f"{cos(ALPHA[i - 1] / 2)!r} {sin(ALPHA[i - 1] / 2)!r} 0 0"
        force = TORQUE[i - 1]
        tree = f"""<body name="link{i}" pos="{where}" quat="{turn}" gravcomp="1">
    <joint class="arm" name="joint{i}" range="{LOWER[i - 1]} {UPPER[i - 1]}" actuatorfrcrange="{-force} {force}"/>
    {LINKS[i]}
    {tree}</body>"""
    return f"""<body name="link0" gravcomp="1">{LINKS[0]}\n{tree}</body>"""


def hand_xml() -> str:
    """The hand and its two fingers, whose inner faces meet in the middle."""
    turn = f"{cos(HAND_TURN / 2)!r} 0 0 {sin(HAND_TURN / 2)!r}"
    fingers = "\n".join(
        f"""<body name="finger_body{i}" pos="0 0 0.0584" quat="{quat}" gravcomp="1">
    <joint class="finger" name="finger{i}"/>{FINGER}</body>"""
        for i, quat in ((1, "1 0 0 0"), (2, "0 0 0 1"))
    )
    return f"""<body name="hand" pos="0 0 {FLANGE}" quat="{turn}" gravcomp="1">{HAND}\n{fingers}</body>"""


def actuator_xml() -> str:
    """Seven position servos, seven velocity servos, and the opening of the gripper."""
    servos = [
        *(f'<position name="position{i + 1}" joint="{j}" kp="{STIFFNESS[i]}"/>' for i, j in enumerate(JOINTS)),
        *(f'<velocity name="velocity{i + 1}" joint="{j}" kv="{DAMPING[i]}"/>' for i, j in enumerate(JOINTS)),
        f'<position name="gripper" tendon="opening" kp="1000" ctrlrange="0 {OPEN}" forcerange="-30 30"/>',
    ]
    return "\n".join(servos)


def scene(worldbody: str, assets: str = "") -> str:
    """The whole MJCF: the arm on its table, and what `worldbody` puts beside it.

    A geom of class `thing` touches everything, `fitted` only the arm, `picture` nothing; the arm passes itself.
    """
    return f"""<mujoco model="franka">
<compiler angle="radian" autolimits="true"/>
<option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="10"/>
<default>
    <geom contype="1" conaffinity="3" condim="4" friction="1 0.01 0.001" solref="0.006 1"/>
    <default class="arm">
        <geom contype="2" conaffinity="1"/>
        <joint axis="0 0 1" armature="0.1" damping="1"/>
    </default>
    <default class="pad"><geom contype="2" conaffinity="1" condim="6" friction="1.5 0.03 0.002"/></default>
    <default class="finger">
        <joint type="slide" axis="0 1 0" range="0 {OPEN / 2}" damping="150" armature="0.1"/>
    </default>
    <default class="thing"/>
    <default class="fitted"><geom contype="0" conaffinity="2"/></default>
    <default class="picture"><geom contype="0" conaffinity="0" mass="0"/></default>
</default>
<asset>{assets}</asset>
<worldbody>
    <light pos="0.2 -0.6 1.6" dir="0.1 0.4 -1"/>
    <geom name="floor" class="picture" type="plane" pos="0 0 -0.75" size="4 4 0.1" rgba="0.42 0.45 0.50 1"/>
    <geom name="table" type="plane" pos="0.45 0 0" size="0.65 0.6 0.1" rgba="0.78 0.62 0.43 1"/>
    {arm_xml()}
    {worldbody}
</worldbody>
<tendon><fixed name="opening"><joint joint="finger1" coef="1"/><joint joint="finger2" coef="1"/></fixed></tendon>
<equality><joint joint1="finger1" joint2="finger2" solref="0.005 1"/></equality>
<actuator>{actuator_xml()}</actuator>
</mujoco>"""
