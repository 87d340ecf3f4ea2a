"""The least scene that has all that `ScenePlant` asks for: seven flywheels of 1 kg m2 side by side, and a finger."""

from pathlib import Path

SCENE = """<mujoco><option timestep=".002" integrator="implicitfast"/><worldbody>{links}<body>
<joint name="finger" type="slide" axis="1 0 0" range="0 .08"/><geom size=".01" mass=".1"/></body></worldbody>
<actuator>{positions}{velocities}<position name="gripper" joint="finger" kp="200" kv="20"/></actuator></mujoco>"""
PARTS = {
    "links": '<body pos="{n} 0 0"><joint name="joint{n}" axis="0 0 1" armature="1"/><geom size=".05"/></body>',
    "positions": '<position name="position{n}" joint="joint{n}" kp="2000"/>',
    "velocities": '<velocity name="velocity{n}" joint="joint{n}" kv="200"/>',
}


def flywheels(folder: Path) -> tuple[str, ...]:
    """Write the scene into a folder; returns the server's arguments for it."""
    every = {name: "".join(part.format(n=n) for n in range(1, 8)) for name, part in PARTS.items()}
    file = folder / "scene.xml"
    file.write_text(SCENE.format(**every))
    return "--plant", "scene", "--scene", str(file)
