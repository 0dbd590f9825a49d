"""What all methods share. Scripts import it before torch, which learns here how OpenMP threads wait for each other."""

import os

# By default they spin, and take the cores from loaders, CRF processes and other users: on two cores, with two loader
# processes and other work, training took 3.6 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
