"""``bnstream demo --train``: two networks, one with batch normalization, compared in a table and a picture."""

import os
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from bnstream.cli.demo.console import empty_table, wide_console
from bnstream.cli.demo.errors import DemoError
from bnstream.cli.demo.network import (
    BATCH_ROWS,
    MODES,
    N_TEST,
    PERCENTILES,
    SIZES,
    STEPS_APART,
    Network,
    TrainingLog,
    load_images,
    train,
)
from bnstream.statefiles.atomic import replacing

WITHOUT, WITH = "without batch norm", "with batch norm"
COLORS = {WITHOUT: "tab:orange", WITH: "tab:blue"}
WIDTH, HEIGHT, DPI = 1600, 1400, 100


def accuracy_table(logs: dict[str, TrainingLog], n_steps: int) -> Table:
    """Loss and accuracy, with one line for each network. The table fits into 80 characters."""
    table = empty_table("network", "training\nloss", *(f"test accuracy,\n{mode}" for mode in MODES))
    for name, log in logs.items():
        loss = np.mean(log.loss[-n_steps:])
        table.add_row(name, f"{loss:.4f}", *(f"{log.test[-1][mode][1]:.1%}" for mode in MODES))
    return table


def draw_activations(axes: Axes, log: TrainingLog, layer: int, n_steps: int, color: str) -> None:
    """Draw bands of the percentiles of one layer's outputs over the training."""
    epochs = np.arange(len(log.activations)) * STEPS_APART / n_steps
    values = np.array(log.activations)[:, layer].T
    for low, high, alpha in ((0, 4, 0.25), (1, 3, 0.5)):
        label = f"{PERCENTILES[low]} % to {PERCENTILES[high]} %"
        axes.fill_between(epochs, values[low], values[high], color=color, alpha=alpha, lw=0, label=label)
    axes.plot(epochs, values[2], color=color, lw=1.5, label="median")
    axes.set(ylim=(0, 1))


def draw_losses(axes: Axes, logs: dict[str, TrainingLog], n_steps: int) -> None:
    """Draw the mean training loss of each epoch."""
    for name, log in logs.items():
        losses = np.array(log.loss).reshape(-1, n_steps).mean(axis=1)
        axes.plot(np.arange(len(losses)) + 1, losses, color=COLORS[name], lw=2, label=name)
    axes.set(yscale="log", title="training loss, mean of an epoch", ylabel="cross entropy, nats")


def draw_modes(axes: Axes, logs: dict[str, TrainingLog], which: int) -> None:
    """Draw loss (which=0) or accuracy (1) on the test set: with batch norm in each mode, and without."""
    labels = {
        "train": f"with: train mode, {BATCH_ROWS} images", "eval": "with: eval mode, running",
        "recalibrated": "with: eval mode, recalibrated",
    }
    axes.plot([results["eval"][which] for results in logs[WITHOUT].test], color=COLORS[WITHOUT], lw=2, label=WITHOUT)
    for mode, color, style in zip(MODES, ("tab:cyan", "tab:blue", "black"), ("-", "-", "--"), strict=True):
        values = [results[mode][which] for results in logs[WITH].test]
        axes.plot(values, color=color, ls=style, lw=2, label=labels[mode])


@rc_context({"font.size": 13})
def draw(logs: dict[str, TrainingLog], n_steps: int) -> Figure:
    """Draw the activations of each layer without and with batch norm; below them losses and accuracy."""
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained")
    grid = figure.subplots(3, 3)
    for row, (name, log) in zip(grid, logs.items(), strict=False):
        for layer, axes in enumerate(row):
            draw_activations(axes, log, layer, n_steps, COLORS[name])
            axes.set_title(f"layer {layer + 1}, {name}")
        row[0].set_ylabel("output of a unit, over a mini-batch")
        row[0].legend(title="percentiles, mean of the units", loc="upper center", ncols=3, fontsize=11,
                      title_fontsize=11, columnspacing=1.0, handlelength=1.2)
    losses, test_loss, accuracy = grid[-1]
    draw_losses(losses, logs, n_steps)
    draw_modes(test_loss, logs, 0)
    draw_modes(accuracy, logs, 1)
    test_loss.set(yscale="log", title="test loss, training against inference", ylabel="cross entropy, nats")
    accuracy.set(title="test accuracy, training against inference", ylabel=f"share of {N_TEST} images", ylim=(0, 1))
    for axes in grid.flat:
        axes.set(xlabel="epoch", xlim=(0, len(logs[WITH].loss) / n_steps))
        axes.grid(alpha=0.3)
    losses.legend()
    accuracy.legend(loc="upper right", bbox_to_anchor=(1, 0.94), fontsize=11)
    return figure


def require_writable(path: Path) -> None:
    """Refuse a path for the picture before anything is computed."""
    if path.suffix.lower() != ".png":
        raise DemoError(f"the name of the picture must end in .png, got {path}")
    if not path.parent.is_dir():
        raise DemoError(f"there is no folder {path.parent}; create it, or choose another one with --out")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise DemoError(f"cannot write {path}; choose another place with --out")


def save_picture(figure: Figure, path: Path) -> None:
    """Write a PNG file that appears when complete."""
    try:
        with replacing(path) as file:
            FigureCanvasAgg(figure).print_png(file)
    except OSError as error:
        raise DemoError(f"cannot write {path}: {error.strerror or error}") from error


def run(path: Path, n_epochs: int = 30) -> None:
    """Train both networks, write the picture and print the table."""
    require_writable(path)
    digits = load_images()
    with Console(stderr=True).status("training"):
        logs = {
            name: train(Network(SIZES, batch_norm), digits, n_epochs)
            for name, batch_norm in ((WITHOUT, False), (WITH, True))
        }
    n_steps = -(-len(digits.x) // BATCH_ROWS)
    save_picture(draw(logs, n_steps), path)
    console = wide_console()
    console.print(accuracy_table(logs, n_steps))
    console.print(f"\nTraining loss: cross entropy, mean of the last of {n_epochs} epochs of {n_steps} steps.")
    console.print(f"Accuracy: on {N_TEST} images; eval by running estimates, recalibrated by exact ones.")
    console.print(f"Picture: {path}", soft_wrap=True, markup=False)
