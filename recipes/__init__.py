"""What each system runs, stage by stage: `python run.py NAME` runs recipes/NAME.py.

A recipe is a function `stages(setup)` that returns a list of `setup.stage(name, script, flags, makes=...)`. To change
more than single flags, copy a file, edit it, and run it: `python run.py my_recipe.py ...`.

A stage's `flags` are those of its script; names in capitals are keys of stage 3. `mini` has those that differ at
`--mini`. `score` names the mIoU in the JSON file that the stage makes, and `figures` others in it. What depends on
another stage takes it from that stage's own `flags` and `makes`, which have the user's changes in them. Chains of
stages that do not need each other go into a `tool.recipe.SideBySide`.

A recipe about other data than VOC says which flag of run.py leads to it, as `DATA = "cub_root"`.
"""
