"""``bnstream demo --train``: two networks, one with batch normalization, side by side in a table and a picture."""

import os
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from bnstream.cli.demo.flights import DataError, empty_table, stdout
from bnstream.cli.demo.network import (
    BATCH_ROWS,
    MODES,
    N_TEST,
    PERCENTILES,
    SIZES,
    STEPS_APART,
    History,
    Network,
    load,
    train,
)

WITHOUT, WITH = "without batch norm", "with batch norm"
COLORS = {WITHOUT: "tab:orange", WITH: "tab:blue"}
WIDTH, HEIGHT, DPI = 1600, 1400, 100


def table(histories: dict[str, History], n_steps: int) -> Table:
    """One line per network; it fits into 80 characters."""
    lines = empty_table("network", "training\nloss", *(f"test accuracy,\n{mode}" for mode in MODES))
    for name, history in histories.items():
        loss = np.mean(history.loss[-n_steps:])
        lines.add_row(name, f"{loss:.4f}", *(f"{history.test[-1][mode][1]:.1%}" for mode in MODES))
    return lines


def draw_activations(axes: Axes, history: History, layer: int, n_steps: int, color: str) -> None:
    """Percentile bands of what one layer puts out, over the training."""
    epochs = np.arange(len(history.activations)) * STEPS_APART / n_steps
    values = np.array(history.activations)[:, layer].T
    for low, high, alpha in ((0, 4, 0.25), (1, 3, 0.5)):
        label = f"{PERCENTILES[low]} % to {PERCENTILES[high]} %"
        axes.fill_between(epochs, values[low], values[high], color=color, alpha=alpha, lw=0, label=label)
    axes.plot(epochs, values[2], color=color, lw=1.5, label="median")
    axes.set(ylim=(0, 1))


def draw_losses(axes: Axes, histories: dict[str, History], n_steps: int) -> None:
    """Training loss, the mean of each epoch."""
    for name, history in histories.items():
        losses = np.array(history.loss).reshape(-1, n_steps).mean(axis=1)
        axes.plot(np.arange(len(losses)) + 1, losses, color=COLORS[name], lw=2, label=name)
    axes.set(yscale="log", title="training loss, mean of an epoch", ylabel="cross entropy, nats")


def draw_modes(axes: Axes, histories: dict[str, History], which: int) -> None:
    """Loss (0) or accuracy (1) on the test set: batch norm in each of its modes, and the other network."""
    labels = {
        "train": f"with: train mode, {BATCH_ROWS} images", "eval": "with: eval mode, running",
        "recalibrated": "with: eval mode, recalibrated",
    }
    axes.plot([found["eval"][which] for found in histories[WITHOUT].test], color=COLORS[WITHOUT], lw=2, label=WITHOUT)
    for mode, color, style in zip(MODES, ("tab:cyan", "tab:blue", "black"), ("-", "-", "--"), strict=True):
        values = [found[mode][which] for found in histories[WITH].test]
        axes.plot(values, color=color, ls=style, lw=2, label=labels[mode])


@rc_context({"font.size": 13})
def draw(histories: dict[str, History], n_steps: int) -> Figure:
    """Activations of each layer without and with; below them the losses, and training against inference."""
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained")
    grid = figure.subplots(3, 3)
    for row, (name, history) in zip(grid, histories.items(), strict=False):
        for layer, axes in enumerate(row):
            draw_activations(axes, history, layer, n_steps, COLORS[name])
            axes.set_title(f"layer {layer + 1}, {name}")
        row[0].set_ylabel("output of a unit, over a mini-batch")
        row[0].legend(title="percentiles, mean of the units", loc="upper center", ncols=3, fontsize=11,
                      title_fontsize=11, columnspacing=1.0, handlelength=1.2)
    losses, test_loss, accuracy = grid[-1]
    draw_losses(losses, histories, n_steps)
    draw_modes(test_loss, histories, 0)
    draw_modes(accuracy, histories, 1)
    test_loss.set(yscale="log", title="test loss, training against inference", ylabel="cross entropy, nats")
    accuracy.set(title="test accuracy, training against inference", ylabel=f"share of {N_TEST} images", ylim=(0, 1))
    for axes in grid.flat:
        axes.set(xlabel="epoch", xlim=(0, len(histories[WITH].loss) / n_steps))
        axes.grid(alpha=0.3)
    losses.legend()
    accuracy.legend(loc="upper right", bbox_to_anchor=(1, 0.94), fontsize=11)
    return figure


def check(path: Path) -> None:
    """Refuse a place for the picture before anything is computed."""
    if path.suffix.lower() != ".png":
        raise DataError(f"the picture is a PNG file, its name must end in .png, got {path}")
    if not path.parent.is_dir():
        raise DataError(f"there is no folder {path.parent}; make it first, or choose another with --out")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise DataError(f"cannot write {path}; choose another place with --out")


def save(figure: Figure, path: Path) -> None:
    """Write the PNG beside its place first, so that there is never half a picture under its name."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with part.open("xb") as file:
                FigureCanvasAgg(figure).print_png(file)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def run(path: Path, n_epochs: int = 30) -> None:
    """Train both, write the picture, show the figures."""
    check(path)
    digits = load()
    with Console(stderr=True).status("training"):
        histories = {
            name: train(Network(SIZES, batch_norm), digits, n_epochs)
            for name, batch_norm in ((WITHOUT, False), (WITH, True))
        }
    n_steps = -(-len(digits.x) // BATCH_ROWS)
    save(draw(histories, n_steps), path)
    console = stdout()
    console.print(table(histories, n_steps))
    console.print(f"\nTraining loss: cross entropy, mean of the last of {n_epochs} epochs of {n_steps} steps.")
    console.print(f"Accuracy: of {N_TEST} images; eval by running estimates, recalibrated by exact ones.")
    console.print(f"Picture: {path}", soft_wrap=True, markup=False)
