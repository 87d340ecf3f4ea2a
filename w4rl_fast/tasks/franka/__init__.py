"""Six tasks on a table with a Franka Panda, simulated in MuJoCo."""
