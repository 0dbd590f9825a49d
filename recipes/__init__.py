"""What each system runs, stage by stage: `python run.py NAME` runs recipes/NAME.py.

A recipe is a function `stages(setup)` that returns a list of `setup.stage(name, script, flags, makes=...)`. To change
more than single flags, copy a file, edit it, and run it: `python run.py my_recipe.py ...`.
"""
