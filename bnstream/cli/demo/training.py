"""``bnstream demo --train``: networks with batch normalization, without, and with other norms, compared."""

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
    NORMS,
    PERCENTILES,
    RATE,
    SIZES,
    STEPS_APART,
    Digits,
    Network,
    TrainingLog,
    load_images,
    train,
)
from bnstream.statefiles.atomic import replacing

WITHOUT, WITH = "without batch norm", "with batch norm"
COLORS = {WITHOUT: "tab:orange", WITH: "tab:blue"}
WIDTH, HEIGHT, DPI = 1600, 1850, 100
FEW_ROWS = (2, 4, 8, 64)        # sizes of the mini-batches on which the norms are compared
N_EPOCHS_OF_NORMS = 12


def accuracy_table(logs: dict[str, TrainingLog], n_steps: int) -> Table:
    """Loss and accuracy, with one line for each network. The table fits into 80 characters."""
    table = empty_table("network", "training\nloss", *(f"test accuracy,\n{mode}" for mode in MODES))
    for name, log in logs.items():
        loss = np.mean(log.loss[-n_steps:])
        table.add_row(name, f"{loss:.4f}", *(f"{log.test[-1][mode][1]:.1%}" for mode in MODES))
    return table


def accuracies_of_norms(digits: Digits) -> dict[str, list[float]]:
    """The test accuracy in inference of each of NORMS, after training on mini-batches of each of FEW_ROWS.

    The rate falls with the root of their size, as the noise of a step grows.
    """
    found: dict[str, list[float]] = {name: [] for name in NORMS}
    for rows in FEW_ROWS:
        for name, norm in NORMS.items():
            log = train(Network(SIZES, norm), digits, N_EPOCHS_OF_NORMS, RATE * (rows / BATCH_ROWS) ** 0.5, rows)
            found[name].append(log.test[-1]["eval"][1])
    return found


def table_of_norms(accuracies: dict[str, list[float]]) -> Table:
    """The accuracies, with one line for each norm."""
    table = empty_table("test accuracy with\nmini-batches of", *(f"\n{rows} images" for rows in FEW_ROWS))
    for name, values in accuracies.items():
        table.add_row(name, *(f"{value:.1%}" for value in values))
    return table


def draw_norms(axes: Axes, accuracies: dict[str, list[float]]) -> None:
    """Draw the accuracies over the size of the mini-batches."""
    for (name, values), marker in zip(accuracies.items(), "osD^", strict=True):
        axes.plot(FEW_ROWS, values, marker=marker, lw=2, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(FEW_ROWS, [str(rows) for rows in FEW_ROWS])
    axes.set(title=f"norms by the size of mini-batches: test accuracy in inference after {N_EPOCHS_OF_NORMS} epochs",
             xlabel="images in a mini-batch", ylabel=f"share of {N_TEST} images")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)


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
def draw(logs: dict[str, TrainingLog], n_steps: int, accuracies: dict[str, list[float]]) -> Figure:
    """Draw the activations of each layer without and with batch norm, then losses and accuracy, then the norms."""
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained")
    places = figure.subplot_mosaic([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 9, 9]])
    grid = np.array([places[i] for i in range(9)]).reshape(3, 3)
    draw_norms(places[9], accuracies)
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
    """Train the networks, write the picture and print the tables."""
    require_writable(path)
    digits = load_images()
    with Console(stderr=True).status("training"):
        logs = {
            name: train(Network(SIZES, norm), digits, n_epochs)
            for name, norm in ((WITHOUT, None), (WITH, NORMS["BatchNorm"]))
        }
        accuracies = accuracies_of_norms(digits)
    n_steps = -(-len(digits.x) // BATCH_ROWS)
    save_picture(draw(logs, n_steps, accuracies), path)
    console = wide_console()
    console.print(accuracy_table(logs, n_steps))
    console.print(f"\nTraining loss: cross entropy, mean of the last of {n_epochs} epochs of {n_steps} steps.")
    console.print(f"Accuracy: on {N_TEST} images; eval by running estimates, recalibrated by exact ones.")
    console.print()
    console.print(table_of_norms(accuracies))
    console.print("\nStatistics of few images are noisy; GroupNorm and LayerNorm take those of each.")
    console.print(f"Picture: {path}", soft_wrap=True, markup=False)
