"""Checkpoints come back as they were saved, are whole or absent, and run nothing that they hold."""

import pickle
import resource

import pytest
import torch

from tool.checkpoint import load_checkpoint, save_checkpoint, save_weights
from tool.cli import UserError


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    return {
        "model": {"fc8.weight": torch.randn(3, 4, generator=generator), "count": torch.tensor(7)},
        "half": torch.randn(5, generator=generator).half(),
        "groups": [{"lr": 0.01, "params": [0, 1]}],
        "step": 12,
        "settings": {"method": "hsc", "without": ["psc"], "resume": False, "network": None},
    }


class Attack:
    """Unpickled without care, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


class Interrupt:
    """Saving it is when somebody ends the run."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        raise self.how


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit])
def test_a_run_that_is_ended_amid_a_save_ends_so_and_the_last_checkpoint_stays(tmp_path, state, how):
    save_checkpoint(tmp_path / "last.ckpt", state)
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(how):
        save_checkpoint(tmp_path / "last.ckpt", {**state, "when": Interrupt(how)})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"last.ckpt": before}


def test_what_is_saved_comes_back(tmp_path, state):
    save_checkpoint(tmp_path / "last.ckpt", state)
    loaded = load_checkpoint(tmp_path / "last.ckpt", "--resume")
    assert loaded.pop("settings") == state.pop("settings")
    torch.testing.assert_close(loaded, state, rtol=0, atol=0)  # dtypes too
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.golden
def test_weights_of_any_device_are_saved_for_any_machine(tmp_path, state, golden_device):
    weights = {name: value.to(golden_device) for name, value in state["model"].items()}
    save_weights(tmp_path / "net.pth", weights)
    loaded = torch.load(tmp_path / "net.pth")  # plain
    assert {value.device.type for value in loaded.values()} == {"cpu"}
    torch.testing.assert_close(loaded, state["model"], rtol=0, atol=0)


def test_a_save_that_fails_leaves_the_checkpoint_before_it_and_nothing_else(tmp_path, state):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, state)
    before = path.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(path, {"weights": torch.zeros(10**5), "last": lambda: None})
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.fixture
def full_disk():
    """Makes every file end at a number of bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [5000, 3_000_000, 3_999_000, 4_000_500])  # in the tensor, and in what comes after it
def test_a_full_disk_is_named_and_leaves_the_checkpoint_before_it_and_nothing_else(tmp_path, state, full_disk, size):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, state)
    before = path.read_bytes()
    full_disk(size)
    with pytest.raises(UserError, match=r"last\.ckpt: cannot be written: File too large"):
        save_checkpoint(path, {"weights": torch.zeros(10**6)})
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_that_are_not_finite_are_never_saved_and_their_tensor_is_named(tmp_path, state, value, dtype):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, state)
    before = path.read_bytes()
    momentum = torch.full((2, 3), 3e38).to(dtype)  # finite, its sum is not
    momentum[1, 1] = value
    spoilt = {**state, "optimizer": {"state": {5: [momentum]}}, "later": torch.tensor(value)}
    with pytest.raises(UserError, match=r"last\.ckpt: not written, as optimizer\.state\.5\.0 holds values"):
        save_checkpoint(path, spoilt)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_large_values_are_saved(tmp_path):
    save_checkpoint(tmp_path / "net.pth", {"weight": torch.full((9,), 3e38), "count": torch.tensor(2**62)})
    assert load_checkpoint(tmp_path / "net.pth", "--weights")["weight"].sum().isinf()


def test_a_folder_that_is_not_there_is_the_users_mistake(tmp_path, state):
    with pytest.raises(UserError, match=r"none/last\.ckpt: cannot be written"):
        save_checkpoint(tmp_path / "none" / "last.ckpt", state)


def save_bare_pickle(value, path):
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("write", [torch.save, save_bare_pickle])
def test_code_in_a_file_is_not_run(tmp_path, write):
    path, trace = tmp_path / "net.pth", tmp_path / "trace"
    write({"weight": torch.zeros(2), "attack": Attack(trace)}, path)
    with pytest.raises(UserError, match=r"--weights .*net\.pth: expected a checkpoint of tensors") as raised:
        load_checkpoint(path, "--weights")
    assert not trace.exists()
    assert "\n" not in str(raised.value)


def test_a_file_that_refers_to_code_names_it(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"found torch\.nn\.modules\.linear\.Linear, which could run code"):
        load_checkpoint(tmp_path / "net.pth", "--weights")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(tmp_path, state, kept):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, state)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        UserError, match=r"--resume .*last\.ckpt: expected .*, found (an empty file|a file without its end)"
    ):
        load_checkpoint(path, "--resume")


def test_an_archive_that_says_it_spans_several_disks_is_refused(tmp_path, state):
    save_checkpoint(tmp_path / "last.ckpt", state)
    content = bytearray((tmp_path / "last.ckpt").read_bytes())
    content[content.rindex(b"PK\x06\x07") + 4] = 1  # the disk that its end is on
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="without its end"):
        load_checkpoint(tmp_path / "last.ckpt", "--resume")


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "net.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=r"--weights .*net\.pth: expected a checkpoint"):
        load_checkpoint(tmp_path / "net.pth", "--weights")


def test_no_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--weights .*net\.pth: expected a file .*, found nothing there"):
        load_checkpoint(tmp_path / "net.pth", "--weights")
