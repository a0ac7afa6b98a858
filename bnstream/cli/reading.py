"""The options of reading that `fit` and `apply` share: those of `bnstream.streams.sources.Reading`."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from bnstream.cli.options import split_names

OPTIONS: dict[str, Any] = {
    "format": Annotated[
        str | None, typer.Option(help="The format of the files, such as csv or parquet.",
                                 show_default="that of their names")
    ],
    "mode": Annotated[
        str | None, typer.Option(help="The mode that all images are converted to, such as RGB.",
                                 show_default="their own")
    ],
    "scale": Annotated[bool | None, typer.Option("--scale", help="Scale images to 0 to 1.", show_default=False)],
    "per_pixel": Annotated[
        bool | None, typer.Option("--per-pixel", help="Statistics of each pixel of images of one size.",
                                  show_default=False)
    ],
    "exclude": Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", callback=split_names, show_default="none",
                                       help="Columns of tables to leave out, also by patterns, such as '*_flag'.")
    ],
    "numeric": Annotated[
        bool | None, typer.Option("--numeric", help="Leave out columns of text, dates and the like.",
                                  show_default=False)
    ],
    "element_axis": Annotated[
        Literal["channels", "pooled"] | None,
        typer.Option(help="Whether the elements of lists, such as embeddings, are channels, or pooled into one.",
                     show_default="channels")
    ],
    "storage_options": Annotated[
        list[str] | None, typer.Option("--storage-option", metavar="KEY=VALUE", show_default="none",
                                       help="An option of the file system of a URL, as in anon=true; may be repeated.")
    ],
    "sheet": Annotated[
        str | None, typer.Option(help="The sheet of a spreadsheet, by its name or its index.", show_default="the first")
    ],
    "delimiter": Annotated[
        str | None, typer.Option(help="Text files: the character between the fields; ' ' for runs of spaces and tabs.",
                                 show_default="found in the first row")
    ],
    "header": Annotated[
        bool | None, typer.Option("--header/--no-header", help="Text files: whether the first row holds names.",
                                  show_default="yes, unless it may be data")
    ],
    "names": Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", callback=split_names, show_default="those in the header",
                                       help="Text files: the names of all columns; with --header, instead of those in "
                                            "the file.")
    ],
    "skip_rows": Annotated[
        int | None, typer.Option(help="Text files: the number of lines to skip at the beginning.", show_default="0")
    ],
    "comment": Annotated[
        str | None, typer.Option(help="Text files: what begins a comment, such as '#'.", show_default="none")
    ],
    "na_values": Annotated[
        list[str] | None, typer.Option("--na-values", "--na", metavar="A,B,...", callback=split_names,
                                       help="Text files: words for missing values, besides NA, nan and the like.",
                                       show_default="none")
    ],
    "decimal": Annotated[str | None, typer.Option(help="Text files: the decimal mark.", show_default=".")],
    "thousands": Annotated[
        str | None, typer.Option(help="Text files: the mark between groups of three digits.", show_default="none")
    ],
    "encoding": Annotated[
        str | None, typer.Option(help="Text files, JSON: their encoding, such as utf-16.",
                                 show_default="utf-8, or by a byte-order mark")
    ],
    "quote": Annotated[
        str | None, typer.Option(help="Text files: the character that encloses fields; '' for none.", show_default='"')
    ],
    "variables": Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", callback=split_names, show_default="all, or the only one",
                                       help="The variables or arrays of HDF5, NetCDF or Zarr, such as t2m,group/x.")
    ],
    "dim": Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", callback=split_names, show_default="all",
                                       help="The dimensions of NetCDF or Zarr to reduce; each position along the "
                                            "others is a channel.")
    ],
    "diff": Annotated[
        str | None, typer.Option(metavar="DIM", help="Compute the statistics of the steps along this dimension.",
                                 show_default="of the values")
    ],
    "short_rows": Annotated[
        Literal["pad"] | None,
        typer.Option(help="Text files: read the fields that a row lacks at its end as missing.",
                     show_default="such a row is an error")
    ],
}


def with_reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of reading, which it takes as ``**reading``."""
    own = [parameter for parameter in inspect.signature(command).parameters.values()
           if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
             for name, annotation in OPTIONS.items()]
    command.__signature__ = inspect.Signature([*own, *added])       # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return command
