"""A run goes on only where it is asked to, with the settings it had; its folder says what these are."""

import json
from copy import deepcopy

import pytest
import torch

from tests.scripts.conftest import assert_same
from tool.checkpoint import save_checkpoint
from tool.cli import UserError
from tool.folder import Claim, claim_folders, make_folder
from tool.optim import polynomial_schedule
from tool.resume import find_checkpoint, restore_checkpoint

SETTINGS = {"LR": 0.001, "SCALES": [0.5, 1.5], "WEIGHTS": None, "SHUFFLE": True}


def find(folder, *, resume=True, settings=SETTINGS, name_flag="EXP_NAME"):
    return find_checkpoint(folder, resume=resume, settings=settings, name_flag=name_flag)


@pytest.fixture
def run(tmp_path):
    """The folder of a run that stopped after 12 steps."""
    state = {"step": 12, "settings": SETTINGS, "model": {"weight": torch.arange(3.0)}}
    save_checkpoint(tmp_path / "last.ckpt", state)
    return tmp_path


def refusal(folder, **arguments) -> list[str]:
    """The lines of the message that refuses the run in `folder`."""
    with pytest.raises(UserError) as raised:
        find(folder, **arguments)
    return str(raised.value).split("\n")


# -- the checkpoint to go on from --------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_does_not_exist_starts_afresh_also_where_its_folder_is_there(tmp_path, resume):
    (tmp_path / "log").touch()
    assert find(tmp_path, resume=resume) is None
    assert find(tmp_path / "none", resume=resume) is None


@pytest.mark.parametrize("target", ["last.ckpt", "a disk that is not there"])
def test_a_checkpoint_whose_link_leads_nowhere_is_named_and_its_run_not_begun_anew(tmp_path, target):
    (tmp_path / "last.ckpt").symlink_to(target)
    with pytest.raises(UserError, match=r"--resume .*last\.ckpt: expected a file .*, found "):
        find_checkpoint(tmp_path, resume=True, settings={"--lr": 0.1}, name_flag="--session")


def test_a_run_of_the_same_settings_goes_on(run):
    checkpoint = find(run)
    assert checkpoint["step"] == 12 and checkpoint["settings"] == SETTINGS
    assert torch.equal(checkpoint["model"]["weight"], torch.arange(3.0))


def test_a_run_that_exists_is_not_overwritten_unasked(run):
    before = (run / "last.ckpt").read_bytes()
    (line,) = refusal(run, resume=False, name_flag="--session")
    assert line == f"{run / 'last.ckpt'}: this run exists; pass --resume to go on with it, or another --session"
    assert (run / "last.ckpt").read_bytes() == before


def test_every_setting_that_differs_is_named_with_both_values(run):
    now = {**SETTINGS, "LR": 0.002, "SCALES": [0.5, 1.25], "WEIGHTS": "w.pth", "NEW": 3}
    summary, *lines = refusal(run, settings=now)
    assert str(run / "last.ckpt") in summary and "another EXP_NAME" in summary and "(4):" in summary
    assert [line.strip() for line in lines] == [
        "LR: 0.001 then, 0.002 now",
        "SCALES: [0.5, 1.5] then, [0.5, 1.25] now",
        "WEIGHTS: None then, w.pth now",
        "NEW: None then, 3 now",
    ]


def test_settings_of_a_file_may_be_anything(run):
    state = {"step": 12, "settings": {**SETTINGS, "LR": torch.zeros(3), "SHUFFLE": {}}}
    save_checkpoint(run / "last.ckpt", state)
    summary, *lines = refusal(run)
    assert "(2):" in summary
    assert [line.strip() for line in lines] == [
        "LR: tensor([0., 0., 0.]) then, 0.001 now",
        "SHUFFLE: {} then, True now",
    ]


def test_a_setting_that_came_after_the_run_counts_as_its_default(run):
    now = {**SETTINGS, "NEW": 3}
    assert find_checkpoint(run, resume=True, settings=now, name_flag="X", defaults={"NEW": 3, "LR": 7})["step"] == 12
    with pytest.raises(UserError, match="NEW: 2 then, 3 now"):
        find_checkpoint(run, resume=True, settings=now, name_flag="X", defaults={"NEW": 2})


def test_a_setting_that_no_longer_counts_may_be_anything(run):
    now = {name: value for name, value in SETTINGS.items() if name != "SHUFFLE"}
    assert find(run, settings=now)["step"] == 12


@pytest.mark.parametrize(
    "state",
    [
        {"model": {}, "step": 1},
        {"model": {}, "settings": SETTINGS},
        {"step": 1, "settings": ["LR", 0.001]},
        {"weight": torch.zeros(1)},
        {"model": {}, "step": 1, "settings": {"--lr": 0.01, "--method": "hsc"}},  # the other stage's
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, state):
    save_checkpoint(tmp_path / "last.ckpt", state)
    (line,) = refusal(tmp_path)
    assert f"{tmp_path / 'last.ckpt'} is no checkpoint of this script; take another EXP_NAME" in line


def test_a_file_that_holds_no_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "last.ckpt")
    (line,) = refusal(tmp_path)
    assert "is no checkpoint of this script" in line


def test_a_damaged_checkpoint_is_refused_by_name(run):
    path = run / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-100])
    (line,) = refusal(run)
    assert str(path) in line and "damaged" in line


# -- the state to go on from -------------------------------------------------------------------------------------------


class Training:
    """A net with a layer that gets no gradient, and what trains it."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.net = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 3), "unused": torch.nn.Linear(3, 3)})
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        self.schedule = polynomial_schedule(self.optimizer, max_step=20)

    @property
    def optimizers(self):
        return {"optimizer": self.optimizer}

    def step(self):
        self.optimizer.zero_grad()
        self.net["used"](torch.ones(4, 2)).square().sum().backward()
        self.optimizer.step()
        self.schedule.step()

    def state(self):
        return {name: getattr(self, name).state_dict() for name in ("net", "optimizer", "schedule")}

    def restore(self, state):
        for name in ("net", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])


def stopped_checkpoint(folder, steps=2):
    """The checkpoint of a run that stopped after `steps` of 20 steps, as a file gives it back."""
    training = Training()
    for _ in range(steps):
        training.step()
    save_checkpoint(folder / "last.ckpt", {**training.state(), "step": steps, "settings": SETTINGS})
    return training, find(folder)


@pytest.mark.parametrize("steps", [0, 2, 20])
def test_a_run_goes_on_from_the_state_that_it_had(tmp_path, steps):
    training, checkpoint = stopped_checkpoint(tmp_path, steps)
    other = Training(seed=1)
    assert restore_checkpoint(other, checkpoint, folder=tmp_path, num_steps=20) == steps
    assert_same(other.state(), training.state())
    training.step()
    other.step()
    assert_same(other.state(), training.state())


MOMENTA = ("optimizer", "state")
DAMAGES = {
    # what the message must hold: where, and what is put there (None: nothing)
    "net: missing": (("net",), None),
    "net: expected dict, found NoneType": (("net",), [None]),
    "net.used.bias: missing": (("net", "used.bias"), None),
    "net.more: unexpected": (("net", "more"), [torch.zeros(2)]),
    "net.used.bias: expected float32 (3,), found float32 (4,)": (("net", "used.bias"), [torch.zeros(4)]),
    "net.used.bias: expected float32 (3,), found int64 (3,)": (("net", "used.bias"), [torch.zeros(3).long()]),
    "net.used.bias: expected float32 (3,), found str": (("net", "used.bias"), ["text"]),
    "sparse_coo float32 (3,)": (("net", "used.bias"), [torch.zeros(3).to_sparse()]),
    "optimizer: missing": (("optimizer",), None),
    "optimizer: expected dict, found list of 0": (("optimizer",), [[]]),
    "optimizer.state: expected dict, found int": (MOMENTA, [3]),
    "optimizer.state.0.momentum_buffer: expected float32 (3, 2), found float32 (2, 3)": (
        (*MOMENTA, 0, "momentum_buffer"), [torch.zeros(2, 3)]
    ),
    "optimizer.state.0.momentum_buffer: missing": ((*MOMENTA, 0, "momentum_buffer"), None),
    "optimizer.state.9: unexpected": ((*MOMENTA, 9), [{}]),
    "optimizer.param_groups: expected list of 1, found list of 2": (("optimizer", "param_groups"), [[{}, {}]]),
    "optimizer.param_groups.0.lr: expected float, found str": (("optimizer", "param_groups", 0, "lr"), ["0.1"]),
    "schedule.last_epoch: missing": (("schedule", "last_epoch"), None),
    "schedule.last_epoch: expected int, found float": (("schedule", "last_epoch"), [0.5]),
    "schedule.step: unexpected": (("schedule", "step"), [5]),
    "banks: unexpected": (("banks",), [{}]),
    "step: expected a whole number from 0 to 20, found 21": (("step",), [21]),
    "step: expected a whole number from 0 to 20, found -1": (("step",), [-1]),
    "step: expected a whole number from 0 to 20, found 2.0": (("step",), [2.0]),
    "step: expected a whole number from 0 to 20, found True": (("step",), [True]),
    "step: expected a whole number from 0 to 20, found tensor(2)": (("step",), [torch.tensor(2)]),
    "threads: expected a whole number of at least 1, found 0": (("threads",), [0]),
    "threads: expected a whole number of at least 1, found 2.0": (("threads",), [2.0]),
}  # fmt: skip


@pytest.mark.parametrize("message", DAMAGES)
def test_a_state_of_other_parts_kinds_or_shapes_is_refused_and_nothing_of_it_taken_over(tmp_path, message):
    _, checkpoint = stopped_checkpoint(tmp_path)
    (*path, name), value = DAMAGES[message]
    place = checkpoint
    for key in path:
        place = place[key]
    if value is None:
        del place[name]
    else:
        place[name] = value[0]
    training = Training(seed=1)
    before = deepcopy(training.state())
    with pytest.raises(UserError) as raised:
        restore_checkpoint(training, checkpoint, folder=tmp_path, num_steps=20)
    summary, line = str(raised.value).split("\n")
    assert summary.startswith(f"--resume: {tmp_path / 'last.ckpt'} is not the state of such a run")
    assert line.strip().endswith(message)
    assert_same(training.state(), before)


def test_everything_that_is_wrong_with_a_state_is_named_at_once(tmp_path):
    with pytest.raises(UserError, match=r"\(4\):\n  net: missing\n  optimizer: missing\n  schedule: missing\n  step: "):
        restore_checkpoint(Training(), {"step": "12", "settings": SETTINGS}, folder=tmp_path, num_steps=20)


# -- the folder --------------------------------------------------------------------------------------------------------


def test_a_folder_is_created_with_its_parents_and_the_arguments_in_it(tmp_path):
    folder = tmp_path / "exps" / "mine"
    make_folder(folder, SETTINGS, flag="EXP_ROOT")
    assert [path.name for path in folder.iterdir()] == ["args.json"]
    assert json.loads((folder / "args.json").read_text()) == SETTINGS


def test_a_folder_that_is_there_keeps_its_files_and_gets_the_new_arguments(run):
    make_folder(run, SETTINGS, flag="EXP_ROOT")
    make_folder(run, {"LR": 3}, flag="EXP_ROOT")
    assert sorted(path.name for path in run.iterdir()) == ["args.json", "last.ckpt"]
    assert json.loads((run / "args.json").read_text()) == {"LR": 3}


@pytest.mark.parametrize("name", ["file", "file/mine"])
def test_a_folder_that_cannot_be_created_is_the_users_mistake(tmp_path, name):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"EXP_ROOT .*file.*: cannot be created \((File exists|Not a directory)\)"):
        make_folder(tmp_path / name, SETTINGS, flag="EXP_ROOT")
    assert (tmp_path / "file").read_text() == "kept"


# -- the record of settings --------------------------------------------------------------------------------------------


SCALES = {"scales": [0.5, 1.0]}


def claim(folder, settings):
    return Claim(folder, f"--{folder.name}", settings)


@pytest.fixture
def two(tmp_path):
    """Two folders, empty."""
    for name in ("cam", "crf"):
        (tmp_path / name).mkdir()
    return tmp_path / "cam", tmp_path / "crf"


def test_folders_are_claimed_once_and_again_with_the_same_settings_only(two):
    cam, crf = two
    claim_folders([claim(cam, SCALES), claim(crf, {**SCALES, "alpha": 7.0})])
    for folder in two:
        (folder / "a.npy").touch()
    before = [(folder / "settings.json").read_bytes() for folder in two]
    claim_folders([claim(cam, SCALES), claim(crf, {**SCALES, "alpha": 7})])  # a recipe's int
    with pytest.raises(UserError) as raised:
        claim_folders([claim(cam, {"scales": [1.0]}), claim(crf, {"scales": [1.0], "alpha": 4.0})])
    assert (
        "made with other settings; take another --cam and --crf, or remove these files and the settings.json there (3)"
        in str(raised.value)
    )
    assert [line.strip() for line in str(raised.value).split("\n")[1:]] == [
        f"{cam}: scales: [0.5, 1.0] then, [1.0] now",
        f"{crf}: scales: [0.5, 1.0] then, [1.0] now",
        f"{crf}: alpha: 7.0 then, 4.0 now",
    ]
    assert [(folder / "settings.json").read_bytes() for folder in two] == before


def test_a_record_from_before_a_setting_counts_as_having_its_default(two):
    claim_folders([claim(two[0], SCALES)])
    later = claim(two[0], {**SCALES, "data_set": "voc12"})._replace(defaults={"data_set": "voc12"})
    claim_folders([later])
    with pytest.raises(UserError, match="data_set: voc12 then, mine now"):
        claim_folders([later._replace(settings={**SCALES, "data_set": "mine"})])


@pytest.mark.parametrize("name", ["a.npy", "a.png"])
def test_a_folder_of_files_made_with_unknown_settings_is_refused_before_any_is_claimed(two, name):
    cam, crf = two
    (crf / name).touch()
    with pytest.raises(UserError) as raised:
        claim_folders([claim(cam, SCALES), claim(crf, SCALES)])
    assert f"{crf}: holds files made with unknown settings" in str(raised.value)
    assert not list(cam.iterdir()) and [path.name for path in crf.iterdir()] == [name]


def test_a_folder_that_holds_other_things_is_claimed(two):
    (two[0] / "notes.txt").touch()
    claim_folders([claim(two[0], SCALES)])
    assert json.loads((two[0] / "settings.json").read_text()) == SCALES


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_damaged_record_is_named(two, content):
    record = two[0] / "settings.json"
    record.write_bytes(content)
    with pytest.raises(UserError, match=r"settings\.json: "):
        claim_folders([claim(two[0], SCALES)])
    assert record.read_bytes() == content
