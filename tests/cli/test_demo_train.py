"""The two networks of the demo: their gradients, their training and their picture."""

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from support.cases import campaign
from support.command import main
from typer.testing import CliRunner

from bnstream.cli import app
from bnstream.cli.demo import network as nets
from bnstream.cli.demo import training
from bnstream.cli.demo.errors import DemoError
from bnstream.cli.demo.network import MODES, Network, cross_entropy

N_EPOCHS = 4
WIDTH, HEIGHT = 1600, 1850
BATCH_NORM = nets.NORMS["BatchNorm"]
ACCURACIES = {name: [0.5, 0.9, 0.95, 0.97] for name in nets.NORMS}


@pytest.fixture(scope="module")
def digits():
    return nets.load_images()


@pytest.fixture(scope="module")
def logs(digits):
    """The logs of a few epochs of training, of both networks."""
    return {
        name: nets.train(Network(nets.SIZES, norm), digits, N_EPOCHS)
        for name, norm in ((training.WITHOUT, None), (training.WITH, BATCH_NORM))
    }


@pytest.fixture(scope="module")
def figure(logs):
    return training.draw(logs, len(logs[training.WITH].loss) // N_EPOCHS, ACCURACIES)


def png_size(content):
    """Width and height of a PNG file, all of whose chunks are complete."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    position, names = 8, []
    while position < len(content):
        n, name = struct.unpack(">I4s", content[position : position + 8])
        checksum = struct.unpack(">I", content[position + 8 + n : position + 12 + n])[0]
        assert zlib.crc32(content[position + 4 : position + 8 + n]) == checksum
        names.append(name)
        position += 12 + n
    assert names[0] == b"IHDR"
    assert names[-1] == b"IEND"
    return struct.unpack(">II", content[16:24])


def test_digits(digits):
    assert digits.x.shape == (1437, 64)
    assert digits.x_test.shape == (360, 64)
    assert len(digits.labels) == 1437
    assert (digits.x.min(), digits.x.max()) == (0, 1)
    assert set(digits.labels_test) == set(range(10))


@pytest.mark.parametrize("name", ["none", "BatchNorm", "GroupNorm", "LayerNorm"])
@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_finite_differences(name, training):
    rng = np.random.default_rng(3)
    network = Network((5, 10, 20, 4), nets.NORMS.get(name))
    for values in network.parameters():
        values += rng.normal(0, 0.5, values.shape)
    for norm in network.norms:
        if name == "BatchNorm":
            norm.running_mean, norm.running_var = rng.normal(size=(2, norm.num_features)) ** 2
            norm.momentum = 0
        norm.train(training)
    x, labels = rng.normal(size=(12, 5)), rng.integers(0, 4, 12)

    def loss():
        return cross_entropy(network.forward(x), labels)[0]

    gradients = network.backward(cross_entropy(network.forward(x), labels)[1])
    h = 1e-5
    for values, gradient in zip(network.parameters(), gradients, strict=True):
        assert gradient.shape == values.shape
        found = np.empty_like(values)
        for index in np.ndindex(values.shape):
            before = values[index]
            values[index] = before + h
            above = loss()
            values[index] = before - h
            found[index] = (above - loss()) / (2 * h)
            values[index] = before
        # The error is h**2 times a third derivative, plus a few eps of a loss near 1, divided by h.
        np.testing.assert_allclose(gradient, found, rtol=1e-6, atol=2e-9)


def test_networks_start_equal_and_see_the_same(digits):
    plain, normed = (Network(nets.SIZES, norm) for norm in (None, BATCH_NORM))
    for ours, theirs in zip(plain.weights, normed.weights, strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert [norm.num_features for norm in normed.norms] == [100, 100, 100]
    assert plain.norms == []


def test_training_is_deterministic(digits, logs):
    again = nets.train(Network(nets.SIZES, BATCH_NORM), digits, 1)
    assert again.loss == logs[training.WITH].loss[: len(again.loss)]


def test_batch_norm_learns_faster(logs):
    without, with_norm = logs[training.WITHOUT], logs[training.WITH]
    assert len(without.loss) == len(with_norm.loss) == 23 * N_EPOCHS
    assert np.mean(with_norm.loss[-23:]) < 0.3 < 2 < np.mean(without.loss[-23:])
    for mode in MODES:
        assert with_norm.test[-1][mode][1] > 0.9
        assert without.test[-1][mode][1] < 0.5


def test_running_estimates_lag_behind(logs):
    """After one epoch the loss is larger with them than with the exact statistics or with those of the batch."""
    losses = {mode: loss for mode, (loss, _) in logs[training.WITH].test[1].items()}
    assert losses["recalibrated"] < 0.7 * losses["eval"]
    assert abs(losses["recalibrated"] / losses["train"] - 1) < 0.15


def test_activations_keep_their_spread(logs):
    """From 5 % to 95 %, outputs spread wide with batch normalization, and hardly at all in the third layer without."""
    for log in logs.values():
        assert np.shape(log.activations) == (-(-23 * N_EPOCHS // 5), 3, 5)
        assert (np.diff(log.activations, axis=2) >= 0).all()
    spread = {name: np.ptp(log.activations, axis=2) for name, log in logs.items()}
    assert (spread[training.WITH] > 0.5).all()
    assert (spread[training.WITHOUT][:, 2] < 0.05).all()


def test_modes_leave_the_network_alone(digits):
    network = Network(nets.SIZES, BATCH_NORM)
    network.step(digits.x[:64], digits.labels[:64], 0.5)
    before = [norm.state_dict() for norm in network.norms]
    nets.evaluate(network, digits)
    for norm, state in zip(network.norms, before, strict=True):
        assert norm.training
        assert all(np.array_equal(values, state[name]) for name, values in norm.state_dict().items())


def test_recalibrated_layers_standardize_the_training_set(digits):
    """The input of each layer is the output of the recalibrated layers before it."""
    network = Network(nets.SIZES, BATCH_NORM).in_mode("recalibrated", digits.x)
    network.forward(digits.x)
    for x, weight, bias, norm in zip(network.inputs, network.weights, network.biases, network.norms, strict=False):
        z = x @ weight + bias
        np.testing.assert_allclose(norm.running_mean, z.mean(axis=0), rtol=1e-10)
        np.testing.assert_allclose(norm.running_var, z.var(axis=0, ddof=1), rtol=1e-10)


def test_sigmoid_and_loss_do_not_overflow():
    assert nets.sigmoid(np.array([-1e4, 0, 1e4])).tolist() == [0, 0.5, 1]
    loss, gradient = cross_entropy(np.array([[1e4, 0.0], [0.0, 0.0]]), np.array([0, 1]))
    assert loss == pytest.approx(np.log(2) / 2)
    assert gradient.tolist() == [[0, 0], [0.25, -0.25]]


def test_small_batches(digits, monkeypatch):
    """On two images batch normalization is far behind the norms of each image."""
    monkeypatch.setattr(training, "FEW_ROWS", (2,))
    monkeypatch.setattr(training, "N_EPOCHS_OF_NORMS", 4)
    found = training.accuracies_of_norms(digits)
    assert list(found) == [*nets.NORMS]
    assert found["BatchNorm"][0] < min(found["GroupNorm"][0], found["LayerNorm"][0]) - 0.1


def test_picture(figure, tmp_path):
    path = tmp_path / "a.PNG"
    path.write_text("before")
    training.save_picture(figure, path)
    assert png_size(path.read_bytes()) == (WIDTH, HEIGHT)
    assert list(tmp_path.iterdir()) == [path]
    assert len(figure.axes) == 10
    for axes in figure.axes:
        assert axes.get_title()
        assert axes.get_xlabel() in ("epoch", "images in a mini-batch")
    norms = next(axes for axes in figure.axes if axes.get_xlabel() != "epoch")
    assert [line.get_ydata().tolist() for line in norms.lines] == [*ACCURACIES.values()]
    assert [text.get_text() for text in norms.get_legend().get_texts()] == [*ACCURACIES]


def test_failed_write_leaves_the_old_picture(figure, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_text("before")

    def full(_canvas, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training.FigureCanvasAgg, "print_png", full)
    with pytest.raises(DemoError, match=r"^cannot write .*a\.png: No space left on device$"):
        training.save_picture(figure, path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "match"),
    [("a.jpg", "must end in .png, got"), ("a", "must end in .png"), ("none/a.png", "there is no folder"),
     ("file/a.png", "there is no folder"), ("folder.png", "cannot write")],
)
def test_impossible_places_are_refused_before_the_training(tmp_path, monkeypatch, name, match):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr(training, "train", None)
    result = CliRunner().invoke(app.make_app(), ["demo", "--train", "--out", str(tmp_path / name)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("bnstream: ")
    assert result.stderr.count("\n") == 1
    assert match in result.stderr


def test_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(training.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(DemoError, match="choose another place with --out"):
        training.require_writable(tmp_path / "a.png")


def test_short_command(logs, figure, tmp_path, monkeypatch):
    """Without --out, the picture is written to the current folder. The training is that of the fixture."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "train", lambda network, digits, n_epochs: logs[
        training.WITH if network.norms else training.WITHOUT])
    monkeypatch.setattr(training, "accuracies_of_norms", lambda digits: ACCURACIES)
    monkeypatch.setattr(training, "draw", lambda logs, n_steps, accuracies: figure)
    result = main("demo", "--train")
    assert (result.returncode, result.stderr) == (0, "")
    check_output(result.stdout, 0.3)
    assert png_size((tmp_path / "bnstream-demo.png").read_bytes()) == (WIDTH, HEIGHT)


@campaign
def test_command(tmp_path):
    """The whole demo, in a separate process."""
    process = subprocess.run(
        [sys.executable, "-m", "bnstream", "demo", "--train"],
        capture_output=True, encoding="utf-8", timeout=300, check=False, cwd=tmp_path,
    )
    assert (process.returncode, process.stderr) == (0, "")
    check_output(process.stdout, 0.1)
    assert png_size((tmp_path / "bnstream-demo.png").read_bytes()) == (WIDTH, HEIGHT)


def check_output(text, loss):
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    cells = {line.rsplit(maxsplit=4)[0].strip(): line.split()[-4:] for line in lines if line.count("%") == 3}
    without, with_norm = cells[training.WITHOUT], cells[training.WITH]
    assert float(with_norm[0]) < loss < float(without[0])
    assert min(float(cell.rstrip("%")) for cell in with_norm[1:]) > 90
    assert len(set(without[1:])) == 1
    assert lines[-1] == "Picture: bnstream-demo.png"
    for name in nets.NORMS:
        (cells,) = [line.split()[-4:] for line in lines if line.strip().startswith(f"{name} ") and line.count("%") == 4]
        assert all(0 < float(cell.rstrip("%")) <= 100 for cell in cells)
